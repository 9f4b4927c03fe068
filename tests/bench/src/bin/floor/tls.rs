//! Mutual TLS 1.3 with rustls and its defaults.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Args;

/// For connections to the other end, which agrees on `alpn`.
pub(crate) fn connector(args: &Args, alpn: &[u8]) -> anyhow::Result<TlsConnector> {
    let (chain, key) = identity(&args.cert)?;
    let mut config = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(roots(&args.roots)?)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config).into())
}

/// For connections from the other end, which offers one of `alpn`.
pub(crate) fn acceptor(args: &Args, alpn: &[&[u8]]) -> anyhow::Result<TlsAcceptor> {
    let (chain, key) = identity(&args.cert)?;
    let clients = WebPkiClientVerifier::builder(roots(&args.roots)?.into()).build()?;
    let mut config = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config).into())
}

fn identity(path: &Path) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    Ok((chain.context("no chain")?, PrivateKeyDer::from_pem_file(path).context("no key")?))
}

fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(path).context("no roots")? {
        roots.add(root?)?;
    }
    Ok(roots)
}
