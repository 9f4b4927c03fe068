//! The certificate authority in a Secret, for all replicas.
//!
//! The Secret `pillion-ca` holds the files of a state directory under their names. Whichever
//! replica is first makes it: the API server lets only one create it, and the others take what
//! that one made. One that somebody takes away is made again of any replica's copy. Each replica
//! works with a copy in its own state directory, as it does without a cluster, and so goes on when
//! the API server is away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use certs::StateFiles;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use model::name::Label;
use model::spiffe::TrustDomain;
use tokio::sync::watch;

use super::{MANAGER, written};

/// The Secret.
const NAME: &str = "pillion-ca";

/// How often the Secret is looked at.
const LOOK: Duration = Duration::from_secs(15);

/// The longest pause between two tries to get it at the start.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The authority's Secret and this replica's copy of it.
#[derive(Debug)]
pub struct SharedAuthority {
    secrets: Api<Secret>,
    state_dir: PathBuf,
    /// The Secret as it was seen last.
    seen: Option<StateFiles>,
}

impl SharedAuthority {
    /// The authority of the control plane in this namespace.
    pub fn new(client: Client, namespace: &Label, state_dir: &Path) -> Self {
        let secrets = Api::namespaced(client, namespace.as_str());
        Self { secrets, state_dir: state_dir.to_owned(), seen: None }
    }

    /// Brings the Secret into the state directory, and makes it where there is none. Tries until
    /// it works, or until a copy of before is found that will do.
    pub async fn obtain(&mut self, trust_domain: &TrustDomain) {
        let mut pause = Duration::from_millis(200);
        while let Err(error) = self.try_obtain(trust_domain).await {
            tracing::warn!(reason = format!("{error:#}"), "cannot get the Secret {NAME}");
            if StateFiles::read(&self.state_dir).is_ok() {
                tracing::warn!("the authority of before the restart is used meanwhile");
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Keeps Secret and copy alike for ever. What somebody else put into the Secret is taken over;
    /// what this replica renewed goes into it where `leads` says so.
    pub async fn keep(mut self, leads: watch::Receiver<bool>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let leads = *leads.borrow();
            if let Err(error) = self.compare(leads).await {
                let reason = format!("{error:#}");
                tracing::warn!(reason, "cannot compare the authority with the Secret {NAME}");
            }
        }
    }

    async fn try_obtain(&mut self, trust_domain: &TrustDomain) -> anyhow::Result<()> {
        let files = match (self.read().await?, StateFiles::read(&self.state_dir)) {
            (Some(files), _) => files,
            // An authority that is here already is the mesh's: another one would end it.
            (None, Ok(own)) => self.put(own).await?,
            (None, Err(_)) => {
                let made = StateFiles::make(trust_domain, SystemTime::now());
                self.put(made.context("new keys")?).await?
            }
        };
        files.write(&self.state_dir).context("--state-dir")?;
        self.seen = Some(files);
        Ok(())
    }

    /// Makes the Secret of these files. Where another replica was first, its files are given.
    async fn put(&self, files: StateFiles) -> anyhow::Result<StateFiles> {
        let metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
        let data = Some(encode(&files));
        let secret = Secret { metadata, data, ..Secret::default() };
        match self.secrets.create(&written(), &secret).await {
            Ok(_) => {
                tracing::info!("made the Secret {NAME}, with the certificate authority");
                Ok(files)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.read().await?.with_context(|| format!("the Secret {NAME} has come and gone"))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn compare(&mut self, leads: bool) -> anyhow::Result<()> {
        let own = StateFiles::read(&self.state_dir).context("--state-dir")?;
        let secret = match self.read().await? {
            Some(secret) => secret,
            None => self.put(own.clone()).await?, // somebody took it away
        };
        if self.seen.as_ref() != Some(&secret) {
            secret.write(&self.state_dir).context("--state-dir")?;
            tracing::info!("took over the Secret {NAME}");
            self.seen = Some(secret);
            return Ok(());
        }
        if own != secret && leads {
            let patch = serde_json::json!({"data": encode(&own)});
            let params = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
            self.secrets.patch(NAME, &params, &Patch::Merge(&patch)).await?;
            tracing::info!("put the renewed issuer into the Secret {NAME}");
            self.seen = Some(own);
        }
        Ok(())
    }

    /// The Secret's files; `None` when there is no Secret.
    async fn read(&self) -> anyhow::Result<Option<StateFiles>> {
        let Some(secret) = self.secrets.get_opt(NAME).await? else { return Ok(None) };
        let parts = secret.data.unwrap_or_default().into_iter();
        let text =
            |(name, bytes): (String, ByteString)| Some((name, String::from_utf8(bytes.0).ok()?));
        match StateFiles::from_parts(parts.filter_map(text)) {
            Ok(files) => Ok(Some(files)),
            Err(missing) => bail!("the Secret {NAME} has no text under data[{missing:?}]"),
        }
    }
}

fn encode(files: &StateFiles) -> BTreeMap<String, ByteString> {
    let bytes = |(name, text): (&String, &String)| (name.clone(), ByteString(text.clone().into()));
    files.parts().iter().map(bytes).collect()
}
