//! What is wrong with a cluster, or with the mesh in it: what is asked of the API server.

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
use super::{judge, network};

/// How long the API server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Objects on a page of a list.
const PAGE: usize = 500;

/// What whoever installs must be allowed to create: the group, and the resource.
const CREATED: [(&str, &str); 10] = [
    ("", "namespaces"),
    ("", "configmaps"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "deployments"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
];

/// What the control plane must be allowed to do, of what its ClusterRole grants: all of it, where
/// the role is as it was installed.
const NEEDED: [(&str, &str, &str); 7] = [
    ("watch", "", "services"),
    ("watch", "", "pods"),
    ("watch", "discovery.k8s.io", "endpointslices"),
    ("watch", "gateway.networking.k8s.io", "httproutes"),
    ("watch", "pillion.dev", "inboundpolicies"),
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "events.k8s.io", "events"),
];

const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
const POLICIES: &str = "/apis/pillion.dev/v1alpha1/inboundpolicies";
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

    /// Whether the mesh can be installed.
    async fn before(&self) -> anyhow::Result<Vec<Finding>> {
        let mut findings = vec![judge::version(&self.must("/version").await?), self.clock().await?];
        findings.push(judge::gateway_api(self.serves(ROUTES).await?));
        findings.push(judge::permissions(&self.denied().await?));
        Ok(findings)
    }

    /// Whether the mesh that is installed works.
    async fn after(&self) -> anyhow::Result<Vec<Finding>> {
        let own = env!("CARGO_PKG_VERSION");
        let mut findings = vec![judge::version(&self.must("/version").await?), self.clock().await?];
        findings.push(judge::gateway_api(self.serves(ROUTES).await?));
        findings.push(judge::own_crds(self.serves(POLICIES).await?));
        let deployment = format!(
            "/apis/apps/v1/namespaces/{}/deployments/pillion-control-plane",
            self.namespace
        );
        match self.get(&deployment).await? {
            Got::Denied(reason) => findings.push(Finding::note(reason)),
            got => findings.extend(judge::deployment(got.there().as_ref(), own)),
        }
        findings.push(self.rights().await?);
        findings.extend(self.authority().await?);
        match self.get(WEBHOOK).await? {
            Got::Denied(reason) => findings.push(Finding::note(reason)),
            got => findings.push(judge::webhook(got.there().as_ref())),
        }
        let pods = self.list("/api/v1/pods").await?;
        findings.extend(judge::pods(&self.list("/api/v1/namespaces").await?, &pods, own));
        let policies = self.list("/apis/networking.k8s.io/v1/networkpolicies").await?;
        findings.extend(network::policies(&policies, &pods));
        Ok(findings)
    }

    /// The API server's answers say its time, to the second.
    async fn clock(&self) -> anyhow::Result<Finding> {
        let response = self.client.send(Request::get("/version").body(Body::empty())?).await?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let server = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let server = server.map(|server| judge::clock(server, SystemTime::now()));
        Ok(server.unwrap_or_else(|| Finding::note("the API server does not say its time")))
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
        for (group, resource) in CREATED {
            let what = json!({"verb": "create", "group": group, "resource": resource,
                "namespace": self.namespace});
            let spec = json!({"resourceAttributes": what});
            if !self.allowed("SelfSubjectAccessReview", &spec).await.context(UNREACHED)? {
                denied.push(format!("create {resource}"));
            }
        }
        Ok(denied)
    }

    /// What the control plane needs and may not do.
    async fn rights(&self) -> anyhow::Result<Finding> {
        let user = format!("system:serviceaccount:{}:pillion-control-plane", self.namespace);
        let mut denied = Vec::new();
        for (verb, group, resource) in NEEDED {
            let what = json!({"verb": verb, "group": group, "resource": resource});
            let spec = json!({"user": user, "resourceAttributes": what});
            match self.allowed("SubjectAccessReview", &spec).await {
                Ok(true) => {}
                Ok(false) => denied.push(format!("{verb} {resource}")),
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

    /// Whether the API server has the resource of this collection.
    async fn serves(&self, path: &str) -> anyhow::Result<bool> {
        Ok(!matches!(self.get(&format!("{path}?limit=1")).await?, Got::Nothing))
    }

    async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let page = self.must(&format!("{path}?limit={PAGE}&continue={next}")).await?;
            all.extend(judge::list(&page["items"]).iter().cloned());
            next = judge::text(&page["metadata"]["continue"]).to_owned();
            if next.is_empty() {
                return Ok(all);
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
