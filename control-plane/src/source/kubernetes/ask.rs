//! One request to the API server: its answer, or what its refusal means.
//!
//! kube's own watch takes the body of every answer for events. A refusal is no `Status` always:
//! the server says `404 page not found` of a kind whose CRD it does not have, and `Too many
//! requests` of an overload, both as plain text.

use std::io;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{AsyncBufReadExt, StreamExt, TryStreamExt, future};
use http::{HeaderMap, Request, Response, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::api::WatchEvent;
use kube::client::Body;
use kube::core::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::{Failure, Remedy};

/// What a watch tells.
pub(super) type Events = BoxStream<'static, Result<WatchEvent<Value>, Failure>>;

/// Asks for something whole.
pub(super) async fn whole<T: DeserializeOwned>(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<T, Failure> {
    let body = ask(client, request).await?.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| not_understood(&error))
}

/// Asks for a watch. A line that breaks off is its end.
pub(super) async fn events(client: &Client, request: Request<Vec<u8>>) -> Result<Events, Failure> {
    let body = ask(client, request).await?.into_body();
    let reader = body.into_data_stream().map_err(io::Error::other).into_async_read();
    let events = reader.lines().map(|line| match serde_json::from_str(&line?) {
        Err(error) if error.is_eof() => Ok(None),
        event => event.map(Some).map_err(|error| not_understood(&error)),
    });
    Ok(events.try_filter_map(future::ok).boxed())
}

async fn ask(client: &Client, request: Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
    let response = client.send(request.map(Body::from)).await?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (code, wait) = (response.status().as_u16(), retry_after(response.headers()));
    let body = response.into_body().collect().await?.to_bytes();
    let status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        Status::failure(String::from_utf8_lossy(&body).trim(), "").with_code(code)
    });
    let failure = Failure::from(status);
    Err(match (failure.remedy, wait) {
        (Remedy::Retry, Some(wait)) => Failure { remedy: Remedy::RetryAfter(wait), ..failure },
        _ => failure,
    })
}

/// The header in its form of seconds, the only one that an API server uses.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn not_understood(error: &serde_json::Error) -> Failure {
    Failure::new(Remedy::Retry, format!("the answer is not what was asked for: {error}"))
}
