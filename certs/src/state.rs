//! The control plane's state directory: private files, written whole or not at all.
//!
//! A file is written beside its place and renamed into it. The first filling of a directory is
//! marked: `.making` is there before the first file and goes after the last, under a lock. So
//! what a crash leaves behind is known as ours and made anew, a second starter waits and then
//! finds all there, and files that somebody else put there are never overwritten.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::spiffe::TrustDomain;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::fingerprint::hex;

/// The files of a whole directory. `root.key` may be kept elsewhere, so it is not among them.
const NEEDED: &[&str] = &[ROOT, ISSUER_KEY, ISSUER, TOKEN_KEY, BUNDLE];

/// The root's private key, only for making the issuer.
pub(crate) const ROOT_KEY: &str = "root.key";
/// The root certificate.
pub(crate) const ROOT: &str = "root.pem";
/// The issuer's private key, which signs leaves.
pub(crate) const ISSUER_KEY: &str = "issuer.key";
/// The issuer's certificate, and others between it and the root if there are any.
pub(crate) const ISSUER: &str = "issuer.pem";
/// The private key that signs join tokens.
pub(crate) const TOKEN_KEY: &str = "token.key";
/// The roots of the trust domain.
pub(crate) const BUNDLE: &str = "bundle.pem";

const MARKER: &str = ".making";
const LOCK: &str = ".lock";

/// A file's name in the directory and its text.
pub(crate) type NewFile = (&'static str, String);

/// What is wrong with the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Some files are there, and this one is not.
    #[error(
        "{} is missing although other files of the authority are there; put it back, or empty the \
         directory to begin a new authority (every sidecar must then join again)",
        .0.display()
    )]
    Missing(PathBuf),
    /// A private key can be read by others.
    #[error("{} can be read or changed by others (mode {mode:04o}); chmod 600 it", path.display())]
    Permissions {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A private key's file holds no key.
    #[error("{} holds no private key in PEM (PKCS #8): {reason}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate's file holds no certificate.
    #[error("{} holds no certificate in PEM: {reason}", path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A state directory, which may not be there yet.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    pub(crate) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// The path of one of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the files if there are none, or if their making was broken off.
    ///
    /// A whole directory is not written to, so it may be read-only.
    pub(crate) fn fill_if_empty<E: From<StateError>>(
        &self,
        make: impl FnOnce() -> Result<Vec<NewFile>, E>,
    ) -> Result<(), E> {
        if self.is_whole() {
            return Ok(());
        }
        self.create()?;
        let _lock = self.lock()?;
        if self.is_whole() {
            return Ok(());
        }
        if !self.has(MARKER) {
            self.refuse_partial()?;
            self.write(MARKER, "")?;
        }
        for (name, text) in make()? {
            self.write(name, &text)?;
        }
        self.remove(MARKER)?;
        Ok(())
    }

    /// Puts a file in place, private and at once: whoever reads it sees the old or the new text.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.path(name);
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| io_error("write", &path)(io::Error::other("no random bytes")))?;
        let beside = self.path(&format!(".{name}.{}", hex(&random)));
        let written = write_synced(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .and_then(|()| self.sync());
        if written.is_err() {
            // What matters is the first error; the file beside is taken for nothing.
            let _ = fs::remove_file(&beside);
        }
        written.map_err(io_error("write", &path))
    }

    /// Reads a private key, which nobody else may be able to read.
    pub(crate) fn key(&self, name: &str) -> Result<KeyPair, StateError> {
        let path = self.path(name);
        let mut file = File::open(&path).map_err(io_error("open", &path))?;
        check_private(&file, &path)?;
        let mut pem = String::new();
        file.read_to_string(&mut pem).map_err(io_error("read", &path))?;
        KeyPair::from_pem(&pem)
            .map_err(|error| StateError::NotAKey { path, reason: error.to_string() })
    }

    /// Reads a private key that may be absent.
    pub(crate) fn key_if_there(&self, name: &str) -> Result<Option<KeyPair>, StateError> {
        match self.key(name) {
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            key => key.map(Some),
        }
    }

    /// Reads the certificates of a file, at least one.
    pub(crate) fn certificates(
        &self,
        name: &str,
    ) -> Result<Vec<CertificateDer<'static>>, StateError> {
        let path = self.path(name);
        let wrong = |reason| StateError::NotACertificate { path: path.clone(), reason };
        let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.read(name)?).collect();
        match ders {
            Ok(ders) if ders.is_empty() => Err(wrong("there is none in it".into())),
            Ok(ders) => Ok(ders),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// Reads a file that is no secret.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, StateError> {
        let path = self.path(name);
        fs::read(&path).map_err(io_error("read", &path))
    }

    /// Whether every needed file is there and no making is under way. The marker is looked for
    /// last: it goes after the last file has come.
    fn is_whole(&self) -> bool {
        NEEDED.iter().all(|name| self.has(name)) && !self.has(MARKER)
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Files without a marker are not ours to replace: all are there, or none.
    fn refuse_partial(&self) -> Result<(), StateError> {
        let any = self.has(ROOT_KEY) || NEEDED.iter().any(|name| self.has(name));
        match NEEDED.iter().find(|name| !self.has(name)) {
            Some(missing) if any => Err(StateError::Missing(self.path(missing))),
            _ => Ok(()),
        }
    }

    /// Makes the directory if it is not there. One that is there, as a mounted volume, keeps its
    /// permissions; the files in it are private all the same.
    fn create(&self) -> Result<(), StateError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(io_error("make the directory", &self.0))
    }

    /// Waits for the directory's lock, which goes with the file handle.
    fn lock(&self) -> Result<File, StateError> {
        let path = self.path(LOCK);
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = open.map_err(io_error("open", &path))?;
        file.lock().map_err(io_error("lock", &path))?;
        Ok(file)
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        fs::remove_file(&path).and_then(|()| self.sync()).map_err(io_error("remove", &path))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

/// The files of a state directory, to be kept in another place too, such as a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct StateFiles(BTreeMap<String, String>);

impl StateFiles {
    /// Makes the files of a new authority.
    ///
    /// # Errors
    /// When no keys can be made.
    pub fn make(domain: &TrustDomain, now: SystemTime) -> Result<Self, rcgen::Error> {
        let files = crate::ca::new_authority(domain, now)?;
        Ok(Self(files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()))
    }

    /// Takes files from elsewhere; what is none of an authority's is left out.
    ///
    /// # Errors
    /// With the name of a file that is missing.
    pub fn from_parts(
        parts: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, &'static str> {
        let ours = |name: &str| name == ROOT_KEY || NEEDED.contains(&name);
        let files: BTreeMap<_, _> = parts.into_iter().filter(|(name, _)| ours(name)).collect();
        match NEEDED.iter().find(|name| !files.contains_key(**name)) {
            Some(missing) => Err(missing),
            None => Ok(Self(files)),
        }
    }

    /// Reads the files of a state directory.
    ///
    /// # Errors
    /// When one that is needed cannot be read.
    pub fn read(dir: &Path) -> Result<Self, StateError> {
        let state = StateDir::new(dir);
        let optional = state.has(ROOT_KEY).then_some(&ROOT_KEY);
        let read = |name: &&str| {
            let bytes = state.read(name)?;
            Ok(((*name).to_owned(), String::from_utf8_lossy(&bytes).into_owned()))
        };
        NEEDED.iter().chain(optional).map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Puts into a state directory what differs there, each file private and at once. The key of the
    /// root, where it is kept elsewhere, goes: with another root it would be the key of none.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, dir: &Path) -> Result<(), StateError> {
        let state = StateDir::new(dir);
        state.create()?;
        if !self.0.contains_key(ROOT_KEY) && state.has(ROOT_KEY) {
            state.remove(ROOT_KEY)?;
        }
        for (name, text) in &self.0 {
            if !state.read(name).is_ok_and(|before| before == text.as_bytes()) {
                state.write(name, text)?;
            }
        }
        Ok(())
    }

    /// The files, by their names.
    pub fn parts(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl fmt::Debug for StateFiles {
    /// The names only: there are keys among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StateFiles").field(&self.0.keys()).finish()
    }
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The mode given above is cut by the umask, never widened; this makes it exact.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Refuses a key that others can read, as ssh does. One that belongs to root and not to us may
/// be readable for its group: so Kubernetes mounts a Secret for a process that is not root.
fn check_private(file: &File, path: &Path) -> Result<(), StateError> {
    let meta = file.metadata().map_err(io_error("look at", path))?;
    let mode = meta.mode() & 0o7777;
    let mounted = meta.uid() == 0 && !rustix::process::geteuid().is_root();
    let forbidden = if mounted { 0o037 } else { 0o077 };
    if mode & forbidden == 0 {
        Ok(())
    } else {
        Err(StateError::Permissions { path: path.to_owned(), mode })
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Result<Vec<NewFile>, StateError> {
        Ok([ROOT_KEY].iter().chain(NEEDED).map(|name| (*name, format!("new {name}"))).collect())
    }

    fn never() -> Result<Vec<NewFile>, StateError> {
        panic!("nothing is to be made")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_directory_is_private_and_so_is_every_file() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(&temp.path().join("a/b"));
        state.fill_if_empty(files).unwrap();
        assert_eq!(mode(&state.0), 0o700);
        for entry in fs::read_dir(&state.0).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        assert_eq!(fs::read_dir(&state.0).unwrap().count(), 7, "six files and the lock");
        state.fill_if_empty(never).unwrap();
    }

    #[test]
    fn a_making_that_was_broken_off_is_made_anew_at_every_step() {
        for steps in 0..=6 {
            let temp = tempfile::tempdir().unwrap();
            let state = StateDir::new(temp.path());
            state.write(MARKER, "").unwrap();
            for (name, _) in files().unwrap().into_iter().take(steps) {
                state.write(name, "half").unwrap();
            }
            assert!(!state.is_whole(), "{steps} files");
            state.fill_if_empty(files).unwrap();
            assert!(state.is_whole());
            assert_eq!(state.read(ROOT).unwrap(), b"new root.pem");
        }
    }

    #[test]
    fn files_that_others_put_there_are_not_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(temp.path());
        state.write(ROOT_KEY, "mine").unwrap();
        let error = state.fill_if_empty(never).unwrap_err().to_string();
        assert!(error.contains("root.pem is missing"), "{error}");
        assert_eq!(state.read(ROOT_KEY).unwrap(), b"mine");
    }

    #[test]
    fn a_failed_making_leaves_nothing_that_passes_for_whole() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(temp.path());
        let fail = || Err(StateError::Missing("no".into()));
        assert!(state.fill_if_empty(fail).is_err());
        assert!(!state.is_whole());
        state.fill_if_empty(files).unwrap();
    }

    #[test]
    fn of_two_starters_one_makes_and_the_other_waits() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(temp.path());
        let made = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let make = || {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        files()
                    };
                    state.fill_if_empty(make).unwrap();
                    assert!(state.is_whole());
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(temp.path());
        state.write(TOKEN_KEY, &KeyPair::generate().unwrap().serialize_pem()).unwrap();
        state.key(TOKEN_KEY).unwrap();
        for wide in [0o640, 0o604, 0o620, 0o644] {
            let path = state.path(TOKEN_KEY);
            fs::set_permissions(&path, Permissions::from_mode(wide)).unwrap();
            let error = state.key(TOKEN_KEY).unwrap_err().to_string();
            assert!(error.contains("token.key can be read or changed by others"), "{error}");
        }
    }

    #[test]
    fn the_key_of_a_root_that_is_kept_elsewhere_goes() {
        let temp = tempfile::tempdir().unwrap();
        let made = files().unwrap().into_iter().map(|(name, text)| (name.to_owned(), text));
        let mut whole = StateFiles(made.collect());
        whole.write(temp.path()).unwrap();
        assert_eq!(StateFiles::read(temp.path()).unwrap(), whole);
        whole.0.remove(ROOT_KEY);
        whole.write(temp.path()).unwrap();
        assert_eq!(StateFiles::read(temp.path()).unwrap(), whole);
        whole.write(temp.path()).unwrap();
    }

    #[test]
    fn errors_name_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(temp.path());
        state.write(ISSUER_KEY, "no key").unwrap();
        state.write(ISSUER, "no certificate").unwrap();
        let text = |error: StateError| error.to_string();
        assert!(text(state.key(ISSUER_KEY).unwrap_err()).contains("issuer.key holds no private"));
        assert!(text(state.certificates(ISSUER).unwrap_err()).contains("issuer.pem holds no cert"));
        assert!(text(state.key(TOKEN_KEY).unwrap_err()).contains("token.key: No such file"));
        assert!(state.key_if_there(ROOT_KEY).unwrap().is_none());
    }
}
