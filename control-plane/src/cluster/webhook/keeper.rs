//! Keeps the webhook's certificate: every replica reads it from a Secret, and the one that leads
//! makes it, replaces it, and tells the API server whom to believe (`caBundle`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use model::name::Label;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::sync::watch;

use super::SERVICE;
use super::certificate::{Pair, Shared};
use crate::cluster::{MANAGER, written};

/// The Secret, of type `kubernetes.io/tls`.
const SECRET: &str = "pillion-injector-tls";

/// The MutatingWebhookConfiguration.
const CONFIGURATION: &str = "pillion-injector";

/// How often the Secret is looked at, before there is a certificate and afterwards.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// The keys of the Secret; the first two are of its type, the others ours.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";
const BEFORE: &str = "before.crt";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const NEXT_AUTHORITY: &str = "next-ca.crt";

/// Keeps the certificate.
pub(in crate::cluster) struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    /// The DNS names of the Service.
    names: Vec<String>,
    served: Option<Shared>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl Keeper {
    /// Of the control plane in this namespace. What it serves with comes with the receiver.
    pub(in crate::cluster) fn new(
        client: Client,
        namespace: &Label,
    ) -> (Self, watch::Receiver<Option<Arc<ServerConfig>>>) {
        let (tls, served) = watch::channel(None);
        let keeper = Self {
            secrets: Api::namespaced(client.clone(), namespace.as_str()),
            configurations: Api::all(client),
            names: vec![format!("{SERVICE}.{namespace}.svc")],
            served: None,
            tls,
        };
        (keeper, served)
    }

    /// Keeps it for ever.
    pub(in crate::cluster) async fn run(mut self, leads: watch::Receiver<bool>) {
        loop {
            let leads = *leads.borrow();
            if let Err(error) = self.look(leads).await {
                let reason = format!("{error:#}");
                tracing::warn!(reason, "cannot keep the certificate of the webhook");
            }
            let (soon, later) = LOOK;
            tokio::time::sleep(if self.served.is_some() { later } else { soon }).await;
        }
    }

    async fn look(&mut self, leads: bool) -> anyhow::Result<()> {
        let shared = match (self.read().await?, leads) {
            (Some((shared, version)), true) => self.see_to(shared, version).await?,
            (Some((shared, _)), false) => shared,
            (None, true) => self.make().await?,
            (None, false) => return Ok(()),
        };
        if self.served.as_ref() != Some(&shared) {
            self.tls.send_replace(Some(server_config(&shared.current)?));
            self.served = Some(shared);
        }
        Ok(())
    }

    /// What the leader does: the API server is told the bundle first, then the next step is taken.
    async fn see_to(&self, shared: Shared, version: String) -> anyhow::Result<Shared> {
        let believed = self.tell(&shared).await?;
        let Some(next) = shared.step(&self.names, believed, SystemTime::now())? else {
            return Ok(shared);
        };
        let mut secret = encode(&next);
        // A key that is there no more must go, and nobody else's step must be lost.
        secret.metadata.resource_version = Some(version);
        self.secrets.replace(SECRET, &written(), &secret).await?;
        tracing::info!("another step in replacing the certificate of the webhook");
        self.tell(&next).await?;
        Ok(next)
    }

    async fn make(&self) -> anyhow::Result<Shared> {
        let shared = Shared::new(Pair::make(&self.names, SystemTime::now())?);
        self.secrets.create(&written(), &encode(&shared)).await?;
        tracing::info!("made a certificate for the webhook, in the Secret {SECRET}");
        self.tell(&shared).await?;
        Ok(shared)
    }

    /// Writes the bundle into each webhook that has another one. Says whether all had it already.
    async fn tell(&self, shared: &Shared) -> anyhow::Result<bool> {
        let Some(configuration) = self.configurations.get_opt(CONFIGURATION).await? else {
            bail!("there is no MutatingWebhookConfiguration {CONFIGURATION}");
        };
        let bundle = ByteString(shared.bundle().into_bytes());
        let webhooks = configuration.webhooks.unwrap_or_default();
        if webhooks.iter().all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&bundle))
        {
            return Ok(true);
        }
        let entry = |name: &String| json!({"name": name, "clientConfig": {"caBundle": bundle}});
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": CONFIGURATION, "resourceVersion": configuration.metadata.resource_version},
            "webhooks": webhooks.iter().map(|webhook| entry(&webhook.name)).collect::<Vec<_>>(),
        });
        let params = PatchParams::apply(MANAGER).force();
        self.configurations.patch(CONFIGURATION, &params, &Patch::Apply(&patch)).await?;
        tracing::info!("told the API server whom to believe as the webhook");
        Ok(false)
    }

    async fn read(&self) -> anyhow::Result<Option<(Shared, String)>> {
        let Some(secret) = self.secrets.get_opt(SECRET).await? else { return Ok(None) };
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        Ok(Some((decode(secret)?, version)))
    }
}

fn encode(shared: &Shared) -> Secret {
    let Shared { current, before, next } = shared;
    let mut data = BTreeMap::new();
    let mut put = |name: &str, text: &str| {
        data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec()));
    };
    put(CERTIFICATE, &current.certificate);
    put(KEY, &current.key);
    put(AUTHORITY, &current.authority);
    before.iter().for_each(|before| put(BEFORE, before));
    if let Some(next) = next {
        put(NEXT_CERTIFICATE, &next.certificate);
        put(NEXT_KEY, &next.key);
        put(NEXT_AUTHORITY, &next.authority);
    }
    Secret {
        metadata: ObjectMeta { name: Some(SECRET.into()), ..ObjectMeta::default() },
        type_: Some("kubernetes.io/tls".into()),
        data: Some(data),
        ..Secret::default()
    }
}

fn decode(secret: Secret) -> anyhow::Result<Shared> {
    let mut data = secret.data.unwrap_or_default();
    let mut take = |name: &str| Some(String::from_utf8_lossy(&data.remove(name)?.0).into_owned());
    let mut pair = |certificate, key, authority| {
        let (certificate, key, authority) = (take(certificate)?, take(key)?, take(authority)?);
        Some(Pair { authority, certificate, key })
    };
    let next = pair(NEXT_CERTIFICATE, NEXT_KEY, NEXT_AUTHORITY);
    let current = pair(CERTIFICATE, KEY, AUTHORITY);
    let before = take(BEFORE);
    let missing = || {
        format!(
            "the Secret {SECRET} needs {CERTIFICATE}, {KEY} and {AUTHORITY}; delete it to begin anew"
        )
    };
    Ok(Shared { current: current.with_context(missing)?, before, next })
}

fn server_config(pair: &Pair) -> anyhow::Result<Arc<ServerConfig>> {
    let chain: Result<Vec<CertificateDer<'_>>, _> =
        CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes());
    let what = || format!("the Secret {SECRET}");
    let config = ServerConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.with_context(what)?, key.with_context(what)?)
        .with_context(what)?;
    Ok(Arc::new(config))
}
