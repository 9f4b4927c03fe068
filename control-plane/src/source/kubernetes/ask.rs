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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A client of a server that gives this answer.
    fn client(status: u16, wait: &'static str, body: &'static str) -> Client {
        let answer = move |_: Request<Body>| {
            let response = Response::builder().status(status).header(header::RETRY_AFTER, wait);
            future::ok::<_, Infallible>(
                response.body(Body::from(body.as_bytes().to_vec())).unwrap(),
            )
        };
        Client::new(tower::service_fn(answer), "default")
    }

    async fn watch(status: u16, wait: &'static str, body: &'static str) -> Result<Events, Failure> {
        let request = Request::get("/api/v1/pods?watch=true").body(Vec::new()).unwrap();
        events(&client(status, wait, body), request).await
    }

    async fn refusal(status: u16, wait: &'static str, body: &'static str) -> (Remedy, String) {
        let Err(failure) = watch(status, wait, body).await else { panic!("a refusal") };
        (failure.remedy, failure.message)
    }

    #[tokio::test]
    async fn a_refusal_in_plain_text_is_understood_by_its_status() {
        let absent = refusal(404, "", "404 page not found\n").await;
        assert_eq!(absent, (Remedy::Absent, "404 page not found (404)".into()));
        let wait = Remedy::RetryAfter(Duration::from_secs(7));
        assert_eq!(refusal(429, "7", "Too many requests\n").await.0, wait);
        assert_eq!(refusal(429, "tomorrow", "Too many requests\n").await.0, Remedy::Retry);
        let status =
            r#"{"kind": "Status", "code": 410, "message": "too old", "reason": "Expired"}"#;
        assert_eq!(refusal(410, "7", status).await.0, Remedy::Relist);
    }

    #[tokio::test]
    async fn a_watch_ends_where_its_last_line_breaks_off() {
        let body = "{\"type\": \"ADDED\", \"object\": {}}\n{\"type\": \"ADD";
        let mut events = watch(200, "", body).await.ok().unwrap();
        assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
        assert!(events.next().await.is_none());
        let mut events = watch(200, "", "nonsense\n").await.ok().unwrap();
        assert!(matches!(events.next().await, Some(Err(_))));
    }
}
