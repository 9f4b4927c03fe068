//! Serves the webhook: POST /inject with an AdmissionReview, over HTTPS.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use daemon::room::Room;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use injector::{Review, Settings, Verdict, review};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::admin::Phase;
use crate::metrics::Metrics;

/// The path of the one endpoint.
const PATH: &str = "/inject";

/// The largest review: etcd's largest object, twice, and its envelope.
const LARGEST: usize = 4 << 20;

/// Connections at the same time. The API server keeps a few of them, and anybody may come: it has
/// nothing to be told by.
const MOST: usize = 256;

/// What most reviews are smaller than.
const ORDINARY: usize = 64 << 10;

/// How many that are larger are read at the same time: more would be much memory in the hands of
/// strangers.
const MOST_LARGE: usize = 8;

/// How long a handshake, and a request, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the accept loop rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type BoxError = Box<dyn Error + Send + Sync>;

/// What is to be told of a pod whose injection was skipped or refused.
#[derive(Debug)]
pub(in crate::cluster) struct Told {
    /// The request of the review.
    pub(in crate::cluster) request: Value,
    /// What was decided, for people.
    pub(in crate::cluster) note: String,
    /// Whether the pod was refused.
    pub(in crate::cluster) refused: bool,
}

/// What answers reviews.
#[derive(Clone)]
pub(in crate::cluster) struct Webhook {
    settings: watch::Receiver<Arc<Settings>>,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    tell: mpsc::Sender<Told>,
    phase: watch::Receiver<Phase>,
    metrics: Arc<Metrics>,
    /// The places for large reviews.
    large: Arc<Semaphore>,
}

impl Webhook {
    /// A webhook that injects by the newest `settings` and serves with the newest `tls`, once there is
    /// a certificate. What is worth an Event goes to `tell`; what finds no place there is dropped.
    pub(in crate::cluster) fn new(
        settings: watch::Receiver<Arc<Settings>>,
        tls: watch::Receiver<Option<Arc<ServerConfig>>>,
        tell: mpsc::Sender<Told>,
        phase: watch::Receiver<Phase>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let large = Arc::new(Semaphore::new(MOST_LARGE));
        Self { settings, tls, tell, phase, metrics, large }
    }

    /// Accepts connections for ever.
    pub(in crate::cluster) async fn serve(self, listener: TcpListener) {
        let mut room = Room::new("webhook", MOST);
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let Some(tls) = self.tls.borrow().clone() else { continue };
                    if room.admit(self.clone().connection(TlsAcceptor::from(tls), socket)) {
                        self.metrics.refused.with_label_values(&["webhook"]).inc();
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "webhook: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, acceptor: TlsAcceptor, socket: TcpStream) {
        let shaken = timeout(PATIENCE, acceptor.accept(socket)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let socket = match shaken {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(%error, "webhook: no TLS handshake");
                return;
            }
        };
        let service =
            service_fn(|request| async { Ok::<_, Infallible>(self.answer(request).await) });
        // No ALPN is offered, so the API server speaks HTTP/1.1.
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(ORDINARY);
        if let Err(error) = builder.serve_connection(TokioIo::new(socket), service).await {
            tracing::debug!(%error, "webhook: a connection has broken");
        }
    }

    /// Answers a request. Who is answered last here is told to come by another connection: this one
    /// would lead to a replica that is gone.
    async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let mut response = self.judge(request).await;
        if *self.phase.borrow() == Phase::Leaving {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn judge<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        if request.uri().path() != PATH {
            return text(StatusCode::NOT_FOUND, "there is /inject\n");
        }
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only POST is served\n");
        }
        match timeout(PATIENCE, self.read(request.into_body())).await {
            Ok(Ok((body, _place))) => self.review(&body),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                text(StatusCode::PAYLOAD_TOO_LARGE, "a review has at most 4 MiB\n")
            }
            Ok(Err(_)) => text(StatusCode::BAD_REQUEST, "the body broke off\n"),
            Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body did not come within 10 s\n"),
        }
    }

    /// Reads a body, for a large one together with its place.
    async fn read<B>(&self, body: B) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), BoxError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let mut body = pin!(Limited::new(body, LARGEST));
        let (mut read, mut place) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if place.is_none() && read.len() + data.len() > ORDINARY {
                place = Some(self.large.acquire().await?);
            }
            read.extend_from_slice(&data);
        }
        Ok((read, place))
    }

    fn review(&self, request: &[u8]) -> Response<Full<Bytes>> {
        let settings = Arc::clone(&self.settings.borrow());
        let review = review(request, &settings);
        self.metrics.injections.with_label_values(&[outcome(&review.verdict)]).inc();
        self.tell(request, &review);
        let mut response = Response::new(Full::from(review.body));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    /// Logs what was decided, and has an Event made of what somebody may wonder about. A dry run
    /// has no effect, so it has no Event (`sideEffects: NoneOnDryRun`).
    fn tell(&self, request: &[u8], review: &Review) {
        let (note, refused) = match &review.verdict {
            Verdict::Injected => {
                tracing::debug!(pod = review.pod, "injected");
                return;
            }
            Verdict::Skipped(skip) if !skip.is_surprising() => return,
            Verdict::Skipped(skip) => (format!("no sidecar is injected: {skip}"), false),
            Verdict::Refused(faults) => {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                (faults.join("; "), true)
            }
            Verdict::Malformed(reason) => {
                tracing::warn!(%reason, "a review that cannot be answered");
                return;
            }
        };
        tracing::info!(pod = review.pod, %note, "not injected");
        let Ok(mut question) = serde_json::from_slice::<Value>(request) else { return };
        if question["request"]["dryRun"] != true {
            let request = question["request"].take();
            // Events are dropped before a pod has to wait for them.
            let _: Result<(), _> = self.tell.try_send(Told { request, note, refused });
        }
    }
}

const fn outcome(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Injected => "injected",
        Verdict::Skipped(_) => "skipped",
        Verdict::Refused(_) => "refused",
        Verdict::Malformed(_) => "malformed",
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use injector::variable::Variables;
    use injector::{Resources, Skip};
    use serde_json::json;

    use super::*;

    fn webhook() -> (Webhook, mpsc::Receiver<Told>) {
        let settings = Settings {
            proxy_image: "proxy".into(),
            init_image: "init".into(),
            control_plane: "control-plane:15010".into(),
            trust_bundle: String::new(),
            trust_domain: "cluster.local".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            token_audience: "pillion.dev".into(),
            version: "1".into(),
            resources: Resources::standard(),
            variables: Variables::default(),
        };
        let (tell, told) = mpsc::channel(4);
        let settings = watch::channel(Arc::new(settings)).1;
        let metrics = Arc::new(Metrics::new().unwrap());
        let (tls, phase) = (watch::channel(None).1, watch::channel(Phase::Serving).1);
        (Webhook::new(settings, tls, tell, phase, metrics), told)
    }

    fn post(body: Vec<u8>) -> Request<Full<Bytes>> {
        Request::post(PATH).body(Full::from(body)).unwrap()
    }

    #[tokio::test]
    async fn large_reviews_wait_for_a_place_and_others_do_not() {
        let (webhook, _told) = webhook();
        let places = webhook.large.acquire_many(u32::try_from(MOST_LARGE).unwrap()).await.unwrap();
        let ordinary = webhook.answer(post(vec![b' '; ORDINARY])).await;
        assert_eq!(ordinary.status(), StatusCode::OK);
        let mut large = pin!(webhook.answer(post(vec![b' '; ORDINARY + 1])));
        assert!(timeout(Duration::from_millis(50), &mut large).await.is_err());
        drop(places);
        assert_eq!(large.await.status(), StatusCode::OK);
        assert_eq!(webhook.large.available_permits(), MOST_LARGE, "it is given back");
        let too_large = webhook.answer(post(vec![b' '; LARGEST + 1])).await;
        assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn whoever_is_answered_by_one_that_leaves_comes_by_another_connection() {
        let (mut webhook, _told) = webhook();
        let answer = webhook.answer(post(Vec::new())).await;
        assert!(!answer.headers().contains_key(CONNECTION));
        webhook.phase = watch::channel(Phase::Leaving).1;
        let answer = webhook.answer(post(Vec::new())).await;
        assert_eq!(answer.headers()[CONNECTION], "close");
    }

    /// Whether an Event is made of a decision.
    fn is_told(verdict: Verdict, dry_run: bool) -> bool {
        let (webhook, mut told) = webhook();
        let request = json!({"request": {"dryRun": dry_run, "namespace": "shop"}}).to_string();
        let review = Review { body: Vec::new(), verdict, pod: "shop/api".into() };
        webhook.tell(request.as_bytes(), &review);
        told.try_recv().is_ok()
    }

    #[test]
    fn an_event_is_made_of_what_surprises_and_of_no_dry_run() {
        assert!(is_told(Verdict::Skipped(Skip::HostNetwork), false));
        assert!(is_told(Verdict::Refused(Vec::new()), false));
        assert!(!is_told(Verdict::Skipped(Skip::HostNetwork), true));
        assert!(!is_told(Verdict::Refused(Vec::new()), true));
        assert!(!is_told(Verdict::Skipped(Skip::Disabled), false));
        assert!(!is_told(Verdict::Injected, false));
    }
}
