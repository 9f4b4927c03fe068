//! The roots that the control plane named last, kept over a restart of the sidecar. Those of its
//! settings are of the day on which these were written; all of them may have been replaced since.

use std::path::{Path, PathBuf};
use std::{fs, io};

use certs::{Roots, TrustBundle};

use crate::config::ControlPlane;

const FILE: &str = "trust-bundle.pem";

/// Whom the sidecar believes at first contact: the roots of its settings, where those name any, and
/// newer ones.
pub(super) fn first_bundle(settings: &ControlPlane) -> Option<TrustBundle> {
    let given = settings.trust_bundle.as_ref()?;
    let newer = settings.state_dir.as_deref().and_then(read);
    let both = newer.and_then(|newer| {
        let ours = given.roots(&settings.trust_domain)?.ders().to_vec();
        let more = newer.ders().iter().filter(|der| !ours.contains(der)).cloned();
        let both: Vec<_> = ours.iter().cloned().chain(more).collect();
        Some(TrustBundle::of(settings.trust_domain.clone(), Roots::from_ders(both).ok()?))
    });
    Some(both.unwrap_or_else(|| given.clone()))
}

/// Keeps what the control plane says of the mesh's roots.
pub(super) fn keep(settings: &ControlPlane, bundle: &TrustBundle) {
    let Some(dir) = &settings.state_dir else { return };
    let Some(roots) = bundle.roots(&settings.trust_domain) else { return };
    if let Err(error) = write(dir, &roots.to_pem()) {
        tracing::warn!(%error, dir = %dir.display(), "the mesh's roots cannot be kept");
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// What was kept; nothing before there is any, or where that is no use.
fn read(dir: &Path) -> Option<Roots> {
    let path = path(dir);
    let pem = match fs::read(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, file = %path.display(), "the roots that were kept cannot be read");
            return None;
        }
    };
    let roots = Roots::from_pem(&pem);
    let useless = |error: &_| {
        tracing::warn!(%error, file = %path.display(), "the roots that were kept are no use");
    };
    roots.inspect_err(useless).ok()
}

/// Whoever reads sees the old or the new text.
fn write(dir: &Path, pem: &str) -> io::Result<()> {
    let path = path(dir);
    if fs::read(&path).is_ok_and(|kept| kept == pem.as_bytes()) {
        return Ok(());
    }
    let beside = dir.join(format!(".{FILE}"));
    fs::write(&beside, pem)?;
    fs::rename(&beside, path)
}
