//! What is wrong with a cluster, or with the mesh in it: what is asked of the API server.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, header};
use kube::client::Body;
use kube::{Client, Config, Error};
use model::name::Label;
use serde_json::{Value, json};

use super::finding::{Finding, Level};
use super::{judge, network, pods, rights};

/// How long the API server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Objects on a page of a list.
const PAGE: usize = 500;

const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1";
const POLICIES: &str = "/apis/pillion.dev/v1alpha1";
const WEBHOOK: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/pillion-injector";

/// Checks the cluster that the environment names. Says whether there is no error.
pub(super) fn run(namespace: &Label, pre: bool, as_json: bool) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(async {
        let cluster = Cluster::open(namespace).await?;
        if pre { cluster.before().await } else { cluster.after().await }
    })?;
    let text = if as_json {
        serde_json::to_string_pretty(&findings)?
    } else {
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    writeln!(io::stdout(), "{text}").context("cannot write the report")?;
    Ok(findings.iter().all(|finding| finding.level < Level::Error))
}

struct Cluster {
    client: Client,
    namespace: Label,
}

impl Cluster {
    async fn open(namespace: &Label) -> anyhow::Result<Self> {
        let mut config = Config::infer().await.context("no cluster is named")?;
        config.connect_timeout = Some(PATIENCE);
        config.read_timeout = Some(PATIENCE);
        Ok(Self { client: Client::try_from(config)?, namespace: namespace.clone() })
    }

    fn own_namespace(&self) -> String {
        format!("/api/v1/namespaces/{}", self.namespace)
    }

    /// Whether the mesh can be installed.
    async fn before(&self) -> anyhow::Result<Vec<Finding>> {
        let mut findings = vec![judge::version(&self.must("/version").await?), self.clock().await?];
        findings.push(self.judged(ROUTES, judge::gateway_api).await?);
        findings.push(self.judged(&self.own_namespace(), judge::namespace).await?);
        findings.push(judge::permissions(&self.denied().await?));
        Ok(findings)
    }

    /// Whether the mesh that is installed works.
    async fn after(&self) -> anyhow::Result<Vec<Finding>> {
        let own = env!("CARGO_PKG_VERSION");
        let mut findings = vec![judge::version(&self.must("/version").await?), self.clock().await?];
        findings.push(self.judged(ROUTES, judge::gateway_api).await?);
        findings.push(self.judged(POLICIES, judge::own_crds).await?);
        let deployment = format!(
            "/apis/apps/v1/namespaces/{}/deployments/pillion-control-plane",
            self.namespace
        );
        match self.get(&deployment).await? {
            Got::Denied(reason) => findings.push(Finding::note(reason)),
            got => {
                let deployment = got.there();
                findings.extend(judge::deployment(deployment.as_ref(), &self.namespace, own));
            }
        }
        findings.push(self.rights().await?);
        findings.extend(self.authority().await?);
        let webhook = match self.get(WEBHOOK).await? {
            Got::Denied(reason) => {
                findings.push(Finding::note(reason));
                None
            }
            got => {
                let webhook = got.there();
                findings.push(judge::webhook(webhook.as_ref()));
                webhook
            }
        };
        self.workloads(&judge::unserved(webhook.as_ref()), own, &mut findings).await?;
        Ok(findings)
    }

    /// Whether pods are as they should be, and reached.
    async fn workloads(
        &self,
        unserved: &BTreeSet<&str>,
        own: &str,
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<()> {
        let namespaces = self.list("/api/v1/namespaces", findings).await?;
        let pods = self.list("/api/v1/pods", findings).await?;
        let policies = self.list("/apis/networking.k8s.io/v1/networkpolicies", findings).await?;
        if let (Some(namespaces), Some(pods)) = (&namespaces, &pods) {
            findings.extend(pods::sidecars(namespaces, unserved, pods, own));
        }
        if let (Some(policies), Some(pods)) = (&policies, &pods) {
            findings.push(network::policies(policies, pods));
        }
        Ok(())
    }

    /// The API server's answers say its time, to the second.
    async fn clock(&self) -> anyhow::Result<Finding> {
        let asked = SystemTime::now();
        let response = self.client.send(Request::get("/version").body(Body::empty())?).await?;
        let answered = SystemTime::now();
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let server = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let finding = server.map(|server| judge::clock(server, asked, answered));
        Ok(finding.unwrap_or_else(|| Finding::note("the API server does not say its time")))
    }

    /// The ends of the root and of the issuer.
    async fn authority(&self) -> anyhow::Result<Vec<Finding>> {
        let secret = format!("/api/v1/namespaces/{}/secrets/pillion-ca", self.namespace);
        let secret = match self.get(&secret).await? {
            Got::Denied(reason) => return Ok(vec![Finding::note(reason)]),
            Got::Nothing => {
                let fix =
                    "The control plane makes it when it starts; if it does not, its log says why.";
                return Ok(vec![Finding::error("there is no Secret pillion-ca", fix)]);
            }
            Got::There(secret) => secret,
        };
        let ends = |file: &str| {
            let pem = STANDARD.decode(judge::text(&secret["data"][file])).ok()?;
            certs::peer_not_after(certs::Roots::from_pem(&pem).ok()?.ders())
        };
        let now = SystemTime::now();
        let root = judge::authority("the root", ends("root.pem"), now);
        Ok(vec![root, judge::authority("the issuer", ends("issuer.pem"), now)])
    }

    /// What an installation needs and whoever asks may not do.
    async fn denied(&self) -> anyhow::Result<Vec<String>> {
        let mut denied = Vec::new();
        for right in rights::CREATED {
            let spec = json!({"resourceAttributes": right.attributes(self.namespace.as_str())});
            if !self.allowed("SelfSubjectAccessReview", &spec).await.context(UNREACHED)? {
                denied.push(right.to_string());
            }
        }
        Ok(denied)
    }

    /// What the control plane needs and may not do.
    async fn rights(&self) -> anyhow::Result<Finding> {
        let user = format!("system:serviceaccount:{}:pillion-control-plane", self.namespace);
        let mut denied = Vec::new();
        for right in rights::NEEDED {
            let what = right.attributes(self.namespace.as_str());
            let spec = json!({"user": user, "resourceAttributes": what});
            match self.allowed("SubjectAccessReview", &spec).await {
                Ok(true) => {}
                Ok(false) => denied.push(right.to_string()),
                Err(Error::Api(status)) if status.code == 403 => {
                    return Ok(Finding::note(not_checked(&status.message)));
                }
                Err(error) => return Err(error).context(UNREACHED),
            }
        }
        Ok(judge::rights(&denied))
    }

    /// What the API server says to a review of somebody's access.
    async fn allowed(&self, kind: &str, spec: &Value) -> kube::Result<bool> {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
        let path = format!("/apis/authorization.k8s.io/v1/{}s", kind.to_lowercase());
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes())
            .map_err(Error::HttpError)?;
        let answer: Value = self.client.request(request).await?;
        Ok(answer["status"]["allowed"] == true)
    }

    /// What comes of what is there, or is not there; a note where it may not be read.
    async fn judged(
        &self,
        path: &str,
        judge: impl Fn(Option<&Value>) -> Finding,
    ) -> anyhow::Result<Finding> {
        Ok(match self.get(path).await? {
            Got::Denied(reason) => Finding::note(reason),
            got => judge(got.there().as_ref()),
        })
    }

    /// All objects of a collection; nothing and a note where they may not be read.
    async fn list(
        &self,
        path: &str,
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<Option<Vec<Value>>> {
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let page = match self.get(&format!("{path}?limit={PAGE}&continue={next}")).await? {
                Got::There(page) => page,
                Got::Nothing => anyhow::bail!("the API server has no {path}"),
                Got::Denied(reason) => {
                    findings.push(Finding::note(reason));
                    return Ok(None);
                }
            };
            all.extend(judge::list(&page["items"]).iter().cloned());
            next = judge::text(&page["metadata"]["continue"]).to_owned();
            if next.is_empty() {
                return Ok(Some(all));
            }
        }
    }

    async fn must(&self, path: &str) -> anyhow::Result<Value> {
        let request = Request::get(path).body(Vec::new())?;
        self.client.request(request).await.with_context(|| format!("{UNREACHED}: GET {path}"))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Got> {
        let request = Request::get(path).body(Vec::new())?;
        match self.client.request(request).await {
            Ok(value) => Ok(Got::There(value)),
            Err(Error::Api(status)) if status.code == 404 => Ok(Got::Nothing),
            Err(Error::Api(status)) if status.code == 403 => {
                Ok(Got::Denied(not_checked(&status.message)))
            }
            Err(error) => Err(error).with_context(|| format!("{UNREACHED}: GET {path}")),
        }
    }
}

fn not_checked(message: &str) -> String {
    format!("not checked, for you may not: {message}")
}

const UNREACHED: &str = "the API server does not answer as it should";

/// What came of asking for something.
enum Got {
    There(Value),
    Nothing,
    Denied(String),
}

impl Got {
    fn there(self) -> Option<Value> {
        match self {
            Self::There(value) => Some(value),
            _ => None,
        }
    }
}
