//! The injector as a mutating webhook: HTTPS for the API server.

mod certificate;
mod keeper;
mod serve;

pub(super) use keeper::Keeper;
pub(super) use serve::{Told, Webhook};

/// The Service that the API server finds the webhook by.
const SERVICE: &str = "pillion-injector";
