//! The injector: what a pod needs to be in the mesh, as a patch of its object. Pure: objects in,
//! patches out.
//!
//! [`inject`] decides about one pod, [`review`] is the same in the words of the API server's
//! webhook. `wishes` reads what the pod asks for, [`variable`] knows what its sidecar can be told, `pod`
//! reads what stands against it, and `container` and `patch` write what is added.

pub mod annotation;
pub mod args;
mod container;
mod inject;
mod outcome;
mod patch;
mod pod;
mod probe;
pub mod quantity;
mod review;
mod settings;
mod uninject;
pub mod variable;
mod wishes;

pub use inject::{inject, skip};
pub use outcome::{Fault, Outcome, Skip};
pub use review::{Review, Verdict, review};
pub use settings::{Resources, Settings};
pub use uninject::uninject;
