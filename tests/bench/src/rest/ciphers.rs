//! What TLS itself costs for each byte, by cipher and by size of record: two connections of rustls
//! in memory, no network and no runtime.

use std::io::{Read, Write};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig,
    ServerConnection, SupportedCipherSuite,
};

use crate::report::{KIB, MIB, Report, quantile};

/// What `ciphers` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each of them is measured, in turn.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How much each sends in a round, in MiB.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

/// The most that a record may carry (RFC 8446 §5.1), and what is measured beside it.
const RECORDS: [usize; 4] = [16_384, 8_192, 4_096, 1_400];

/// The bytes that are written at once.
const CHUNK: usize = 65_536;

/// The header of a record, which rustls counts to its size.
const HEADER: usize = 5;

/// What is measured: a cipher with a size of records, and its CPU time for each KiB, by rounds.
struct Way {
    suite: SupportedCipherSuite,
    record: usize,
    nanoseconds: Vec<f64>,
}

/// Measures.
///
/// # Errors
/// When two connections do not agree.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let suites = certs::provider().cipher_suites.clone();
    let mut ways: Vec<Way> = suites
        .iter()
        .flat_map(|suite| RECORDS.map(|record| (*suite, record)))
        .map(|(suite, record)| Way { suite, record, nanoseconds: Vec::new() })
        .collect();
    for _ in 0..args.rounds {
        for way in &mut ways {
            way.nanoseconds.push(measure(way.suite, way.record, args.size)?);
        }
    }
    let report = Report::default();
    report.part("CPU of a KiB, sealed by one end and opened by the other: median (least to most)");
    for way in &ways {
        let [least, median, most] = [0.0, 0.5, 1.0].map(|share| quantile(&way.nanoseconds, share));
        let name = format!("{:?}, records of {} bytes", way.suite.suite(), way.record);
        report.line(&name, format!("{median:.0} ns ({least:.0} to {most:.0})"));
    }
    Ok(())
}

/// Sends so many MiB. Gives the nanoseconds of this thread for each KiB.
fn measure(suite: SupportedCipherSuite, record: usize, size: usize) -> anyhow::Result<f64> {
    let (mut client, mut server) = pair(suite, record)?;
    let (data, mut wire, mut sink) = ([7; CHUNK], Vec::new(), vec![0; CHUNK]);
    let (mut sent, mut received) = (0, 0);
    let begun = clock_gettime(ClockId::ThreadCPUTime);
    while sent < size * MIB as usize {
        client.writer().write_all(&data)?;
        sent += CHUNK;
        take(&mut client, &mut wire)?;
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest)?;
            server.process_new_packets()?;
            while let Ok(count @ 1..) = server.reader().read(&mut sink) {
                received += count;
            }
        }
    }
    let ended = clock_gettime(ClockId::ThreadCPUTime);
    ensure!(received == sent, "of {sent} bytes {received} came");
    let took = (ended.tv_sec - begun.tv_sec) as f64 * 1e9 + (ended.tv_nsec - begun.tv_nsec) as f64;
    Ok(took / (sent as f64 / KIB))
}

/// Two connections whose handshake is over.
fn pair(
    suite: SupportedCipherSuite,
    record: usize,
) -> anyhow::Result<(ClientConnection, ServerConnection)> {
    let own = rcgen::generate_simple_self_signed(["bench".to_owned()])?;
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone())?;
    let provider =
        Arc::new(CryptoProvider { cipher_suites: vec![suite], ..(*certs::provider()).clone() });
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.max_fragment_size = Some(record + HEADER);
    let mut client = ClientConnection::new(config.into(), ServerName::try_from("bench")?)?;
    client.set_buffer_limit(None);
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.ok().context("no key")?)?;
    let mut server = ServerConnection::new(config.into())?;
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        carry(&mut client, &mut server, &mut wire)?;
        carry(&mut server, &mut client, &mut wire)?;
    }
    Ok((client, server))
}

/// Gives one what the other has for it.
fn carry<A, B>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
    wire: &mut Vec<u8>,
) -> anyhow::Result<()> {
    take(from, wire)?;
    let mut rest = wire.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest)?;
        to.process_new_packets()?;
    }
    Ok(())
}

/// All that one wants to write.
fn take<A>(from: &mut ConnectionCommon<A>, wire: &mut Vec<u8>) -> anyhow::Result<()> {
    wire.clear();
    while from.wants_write() {
        from.write_tls(wire)?;
    }
    Ok(())
}
