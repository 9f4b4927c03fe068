//! What the demo writes to the disk: a directory that is gone when the demo ends.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use certs::{ServiceAccount, TokenSigner};
use model::name::Label;
use tempfile::TempDir;

use super::error::DemoError;
use super::plan::{NAMESPACE, Plan};

/// The objects of the demo, as anybody could write them.
pub(crate) const OBJECTS: [(&str, &str); 5] = [
    ("namespace.yaml", include_str!("../../demo/namespace.yaml")),
    ("web.yaml", include_str!("../../demo/web.yaml")),
    ("api.yaml", include_str!("../../demo/api.yaml")),
    ("data.yaml", include_str!("../../demo/data.yaml")),
    ("echo.yaml", include_str!("../../demo/echo.yaml")),
];

/// How long the sidecars' join tokens are good for. They are needed again at every renewal.
const TOKEN_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// The demo's directory.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    /// Makes the directory with the objects in it.
    pub(crate) fn new() -> Result<Self, DemoError> {
        let private = Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix("pillion-demo-").permissions(private).tempdir();
        let home = Self(dir.map_err(DemoError::system("make a directory for the demo"))?);
        home.fill().map_err(DemoError::system("write the demo's objects"))?;
        Ok(home)
    }

    fn fill(&self) -> io::Result<()> {
        for dir in [self.objects(), self.tokens(), self.logs()] {
            fs::create_dir(dir)?;
        }
        for (name, text) in OBJECTS {
            fs::write(self.objects().join(name), text)?;
        }
        Ok(())
    }

    /// Writes a join token for each pod, with the keys of the control plane that runs on this
    /// directory.
    pub(crate) fn write_tokens(&self, plan: &Plan) -> Result<(), DemoError> {
        let signer = TokenSigner::open(&self.state())?;
        let namespace: Label = NAMESPACE.parse()?;
        for pod in &plan.pods {
            let account = ServiceAccount::new(namespace.clone(), pod.service)?;
            let token = signer.mint(&account, TOKEN_TTL, SystemTime::now())?;
            write_private(&self.token(pod.name), &token)
                .map_err(DemoError::system("write a join token"))?;
        }
        Ok(())
    }

    /// The directory of objects that the control plane watches.
    pub(crate) fn objects(&self) -> PathBuf {
        self.0.path().join("objects")
    }

    /// The control plane's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// The directory of the processes' logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.path().join("logs")
    }

    /// The file of a pod's join token.
    pub(crate) fn token(&self, pod: &str) -> PathBuf {
        self.tokens().join(pod)
    }

    fn tokens(&self) -> PathBuf {
        self.0.path().join("tokens")
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
