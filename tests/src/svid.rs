//! Certificates for peers that are not ours: signed with the mesh's authority, by OpenSSL, as an
//! operator would who gives another mesh the same root.

use std::path::{Path, PathBuf};

use crate::mesh::Mesh;
use crate::poll::SOON;
use crate::process::run;
use crate::tools;

/// A certificate with its chain, and its key: files in PEM.
#[derive(Debug, Clone)]
pub struct Svid {
    /// The leaf, then the authority's issuer.
    pub chain: PathBuf,
    /// The key of the leaf.
    pub key: PathBuf,
}

impl Svid {
    /// A certificate of the authority of `mesh` for `identity`, for both sides of a connection and
    /// for a day. The files are NAME.pem and NAME.key beside the mesh's logs.
    ///
    /// # Panics
    /// When OpenSSL (3.0 or newer) cannot make it.
    pub async fn signed(mesh: &Mesh, name: &str, identity: &str) -> Self {
        let file = |extension: &str| mesh.logs().join(format!("{name}.{extension}"));
        let svid = Self { chain: file("pem"), key: file("key") };
        let (config, leaf) = (file("cnf"), file("leaf"));
        std::fs::write(&config, description(identity)).unwrap();
        let issuer = mesh.state_dir().join("issuer.pem");
        let args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let files = [
            ("-config", &config),
            ("-CA", &issuer),
            ("-CAkey", &mesh.state_dir().join("issuer.key")),
            ("-keyout", &svid.key),
            ("-out", &leaf),
        ];
        let files = files.into_iter().flat_map(|(flag, path)| [flag, text(path)]);
        let args = args.into_iter().chain(["-nodes", "-days", "1"]).chain(files);
        let output = run(&tools::find("openssl", "openssl"), args, &[], SOON).await;
        assert_eq!(output.code, Some(0), "openssl req: {}", output.stderr);
        let chain = [leaf, issuer].map(|part| std::fs::read_to_string(part).unwrap()).concat();
        std::fs::write(&svid.chain, chain).unwrap();
        svid
    }
}

/// What OpenSSL is to put into the certificate: what X509-SVID §4 asks of a leaf.
fn description(identity: &str) -> String {
    format!(
        "[req]\n\
         distinguished_name = name\n\
         x509_extensions = leaf\n\
         prompt = no\n\
         [name]\n\
         CN = not ours\n\
         [leaf]\n\
         basicConstraints = critical, CA:FALSE\n\
         keyUsage = critical, digitalSignature\n\
         extendedKeyUsage = serverAuth, clientAuth\n\
         subjectAltName = URI:{identity}\n"
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
