//! The leases on disk, so that a restart of the control plane forgets no workload.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Lease;

/// The file in the state directory.
const FILE: &str = "registry.json";

/// Where the leases are kept.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

/// Why leases cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no leases.
    #[error("{path} holds no leases: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Store {
    /// The leases of a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE) }
    }

    /// The leases that were saved last; none when there was no save yet.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn load(&self) -> Result<Vec<Lease>, StoreError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.io(source)),
        };
        serde_json::from_slice(&text)
            .map_err(|source| StoreError::Format { path: self.path.clone(), source })
    }

    /// Replaces what was saved, at once or not at all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, leases: &[Lease]) -> Result<(), StoreError> {
        let text = serde_json::to_vec(leases)
            .map_err(|source| StoreError::Format { path: self.path.clone(), source })?;
        self.replace(&text).map_err(|source| self.io(source))
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let fresh = self.path.with_extension("json.new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file: File = options.open(&fresh)?;
        file.write_all(text)?;
        file.sync_data()?;
        fs::rename(&fresh, &self.path)
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), source }
    }
}

/// A protocol in the file, by its number on the wire.
pub(super) mod protocol {
    use model::service::Protocol;
    use serde::{Deserialize, Deserializer, Serializer};
    use wire::service::{decode_protocol, encode_protocol};

    pub(crate) fn serialize<S: Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i32(encode_protocol(*protocol))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Protocol, D::Error> {
        i32::deserialize(from).map(decode_protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::lease;
    use super::*;

    #[test]
    fn what_is_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert_eq!(store.load().unwrap(), []);
        let leases = [lease("shop/api", "10.0.0.1", 80), lease("shop/db", "10.0.0.2", 81)];
        store.save(&leases).unwrap();
        assert_eq!(store.load().unwrap(), leases);
        store.save(&leases[..1]).unwrap();
        assert_eq!(store.load().unwrap(), leases[..1]);
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = Store::new(dir.path()).load().unwrap_err().to_string();
        assert!(error.contains("registry.json holds no leases"), "{error}");
    }
}
