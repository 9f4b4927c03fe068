//! Wrong settings: each ends with a message that says what to do, the right exit code, and
//! nothing half done; what may come right by itself is waited for.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tests::bins::bins;
use tests::client;
use tests::mesh::{Mesh, TRUST_DOMAIN};
use tests::poll::{self, SOON};
use tests::process::{Output, run};
use tests::tools;

/// Wrong usage or settings.
const USAGE: Option<i32> = Some(2);
/// The system refused.
const RUNTIME: Option<i32> = Some(1);

async fn proxy(args: &[&str], environment: &[(&str, &str)]) -> Output {
    run(&bins().proxy, args, environment, SOON).await
}

async fn control_plane(args: &[&str]) -> Output {
    run(&bins().control_plane, args, &[], SOON).await
}

/// The message is short, names every one of `parts` and no source line.
fn assert_says(output: &Output, code: Option<i32>, parts: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    for part in parts {
        assert!(output.stderr.contains(part), "{part:?} is missing in: {}", output.stderr);
    }
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    assert!(!output.stderr.contains("stack backtrace"), "{}", output.stderr);
    assert!(output.stderr.lines().count() <= 12, "a message, no dump: {}", output.stderr);
    assert_eq!(output.stdout, "", "messages go to standard error");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_flag_is_named_with_the_nearest_one() {
    let output = proxy(&["--adress", "127.0.0.1", "--token-file", "t"], &[]).await;
    assert_says(&output, USAGE, &["--adress", "--address"]);
    let output = control_plane(&["--state-dri", "x"]).await;
    assert_says(&output, USAGE, &["--state-dri", "--state-dir"]);
    let output = run(&bins().pillion, ["tokn"], &[], SOON).await;
    assert_says(&output, USAGE, &["tokn", "token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_is_refused_with_the_flag_and_the_reason() {
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--address", "localhost"], &["--address", "localhost"]),
        (&["--mesh-port", "0"], &["--mesh-port"]),
        (&["--connect-timeout", "1"], &["--connect-timeout"]),
        (&["--trace-sample-ratio", "2"], &["--trace-sample-ratio", "0 to 1"]),
        (&["--service", "api", "--app-port", "80"], &["--service"]),
        (&["--service", "shop/api"], &["--app-port"]),
        (&["--log-format", "xml"], &["--log-format", "json"]),
        (&["--log-level", "proxy=info,wran"], &["--log-level", "wran", "warn"]),
    ];
    for (flags, parts) in cases {
        let output = proxy(&[&["--token-file", "/dev/null"], flags].concat(), &[]).await;
        assert_says(&output, USAGE, parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_environment_variable_is_named_with_the_nearest_one() {
    let environment = [("PILLION_TOKENFILE", "x")];
    let output = proxy(&["--token-file", "/dev/null"], &environment).await;
    assert_says(&output, USAGE, &["PILLION_TOKENFILE", "PILLION_TOKEN_FILE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_variable_counts_like_its_flag() {
    let environment = [("PILLION_MESH_PORT", "none"), ("PILLION_TOKEN_FILE", "/dev/null")];
    let output = proxy(&[], &environment).await;
    assert_says(&output, USAGE, &["--mesh-port", "none"]);
}

/// Flags of a sidecar of `mesh` at an address of its own, but for the token.
fn sidecar_flags(mesh: &Mesh) -> Vec<String> {
    let pairs = [
        ("--address", mesh.free_address().to_string()),
        ("--control-plane", mesh.api().to_string()),
        ("--trust-domain", TRUST_DOMAIN.to_owned()),
        ("--workers", "1".to_owned()),
    ];
    pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

async fn with_token(mesh: &Mesh, token: &Path) -> Output {
    let mut flags = sidecar_flags(mesh);
    flags.extend(["--token-file".to_owned(), token.to_str().unwrap().to_owned()]);
    run(&bins().proxy, &flags, &[], SOON).await
}

fn file(mesh: &Mesh, name: &str, text: &str) -> PathBuf {
    let path = mesh.logs().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_read_or_is_none_ends_the_sidecar_with_its_file() {
    let mesh = Mesh::start().await;
    let missing = mesh.logs().join("no-such-token");
    assert_says(&with_token(&mesh, &missing).await, USAGE, &["no-such-token"]);
    let directory = mesh.logs();
    assert_says(&with_token(&mesh, &directory).await, USAGE, &[directory.to_str().unwrap()]);
    let empty = file(&mesh, "empty-token", "");
    assert_says(&with_token(&mesh, &empty).await, USAGE, &["empty-token"]);
    let garbage = file(&mesh, "garbage-token", "this is no token\n");
    let output = with_token(&mesh, &garbage).await;
    assert_says(&output, USAGE, &["garbage-token"]);
    assert!(!output.stderr.contains("this is no token"), "a token is never printed");
}

/// Root may read every file, so root runs the sidecar as nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_without_permission_ends_the_sidecar_with_its_file() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop", "api", "1h").await;
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o000)).unwrap();
    let public = tempfile::tempdir().unwrap();
    std::fs::set_permissions(public.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = public.path().join("pillion-proxy");
    std::fs::copy(&bins().proxy, &binary).unwrap();

    let mut args = vec![binary.to_str().unwrap().to_owned()];
    args.extend(sidecar_flags(&mesh));
    args.extend(["--token-file".to_owned(), token.to_str().unwrap().to_owned()]);
    if rustix::process::geteuid().is_root() {
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
        args.splice(0..0, nobody.map(ToOwned::to_owned));
        args.insert(0, tools::find("setpriv", "util-linux").to_str().unwrap().to_owned());
    }
    let output = run(Path::new(&args[0]), &args[1..], &[], SOON).await;
    assert_says(&output, USAGE, &[token.to_str().unwrap(), "ermission"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_ends_the_sidecar_and_says_what_to_do() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop", "api", "1s").await;
    // A token is taken for a few seconds beyond its end, for clocks that differ.
    let output = poll::until("the token is too old", 2 * SOON, async || {
        let mut flags = sidecar_flags(&mesh);
        flags.extend(["--token-file".to_owned(), token.to_str().unwrap().to_owned()]);
        let limited =
            tokio::process::Command::new(&bins().proxy).args(&flags).kill_on_drop(true).output();
        match tokio::time::timeout(std::time::Duration::from_secs(3), limited).await {
            Ok(output) => Ok(output.unwrap()),
            Err(_) => Err("it runs"),
        }
    })
    .await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), USAGE, "{said}");
    assert!(said.contains("expired") && said.contains("pillion token"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_namespace_than_the_services_ends_the_sidecar() {
    let mesh = Mesh::start().await;
    let token = mesh.token("other", "api", "1h").await;
    let mut flags = sidecar_flags(&mesh);
    let more = ["--service", "shop/api", "--app-port", "8080", "--token-file"];
    flags.extend(more.map(ToOwned::to_owned));
    flags.push(token.to_str().unwrap().to_owned());
    let output = run(&bins().proxy, &flags, &[], SOON).await;
    assert_says(&output, USAGE, &["--service", "shop/api", "namespace", "other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_with_the_wrong_trust_root_lives_unready_and_says_why() {
    let (mesh, other) = (Mesh::start().await, Mesh::start().await);
    let bundle = other.bundle();
    let flags = ["--trust-bundle-file", bundle.to_str().unwrap()];
    let pod = mesh.pod("shop/lost").flags(flags).start_unready().await;
    assert_lives_unready(&pod, &["certificate"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_with_a_token_of_another_mesh_lives_unready_and_says_why() {
    let (mesh, other) = (Mesh::start().await, Mesh::start().await);
    let token = other.token("shop", "lost", "1h").await;
    let flags = ["--token-file", token.to_str().unwrap()];
    let pod = mesh.pod("shop/lost").without_token().flags(flags).start_unready().await;
    assert_lives_unready(&pod, &["root"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_without_a_control_plane_lives_unready_and_joins_when_it_is_there() {
    let mesh = Mesh::start().await;
    // Tokens are made beside the control plane, so it was there before.
    let token = mesh.token("shop", "early", "1h").await;
    mesh.control_plane().kill();
    let flags = ["--token-file", token.to_str().unwrap()];
    let pod = mesh.pod("shop/early").without_token().flags(flags).start_unready().await;
    let address = mesh.api().to_string();
    assert_lives_unready(&pod, &[&address]).await;
    let answer = pod.get("http://api.shop/").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    mesh.restart_control_plane().await;
    pod.until_ready().await;
}

async fn assert_lives_unready(pod: &tests::pod::Pod, parts: &[&str]) {
    let log = poll::until("the reason is logged", SOON, async || {
        let log = pod.sidecar().log();
        let warns = |line: &&str| line.contains("WARN") || line.contains("ERROR");
        let tells = |line: &str| parts.iter().all(|part| line.contains(part));
        if log.lines().filter(warns).any(tells) { Ok(log) } else { Err(log) }
    })
    .await;
    let warnings = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    assert!(warnings.count() < 50, "it must not flood the log:\n{log}");
    let ready = client::get_direct(pod.admin(), "/ready").await.unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.text().len() > 5, "/ready says why: {ready:?}");
    let live = client::get_direct(pod.admin(), "/live").await.unwrap();
    assert_eq!(live.status, 200, "{live:?}");
    assert!(pod.sidecar().ended().is_none(), "it must go on trying");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_of_the_sidecar_is_named_with_its_flag() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop", "api", "1h").await;
    for (port, flag) in [
        (15001, "--outbound-port"),
        (15006, "--inbound-port"),
        (15008, "--mesh-port"),
        (15020, "--admin-port"),
    ] {
        let address = mesh.free_address();
        let _taken = TcpListener::bind((address, port)).unwrap();
        let mut flags = sidecar_flags(&mesh);
        flags.extend(["--token-file", token.to_str().unwrap()].map(ToOwned::to_owned));
        flags[1] = address.to_string();
        let output = run(&bins().proxy, &flags, &[], SOON).await;
        let place = format!("{address}:{port}");
        assert_says(&output, RUNTIME, &[&place, flag]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_of_the_control_plane_is_named_and_nothing_is_made() {
    let mesh = Mesh::start().await;
    let state = mesh.logs().join("second-state");
    let config = mesh.config_dir();
    let api = mesh.api().to_string();
    let admin = format!("{}:15014", mesh.free_address());
    let args = ["--config-dir", config.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
    let args = [&args[..], &["--address", &api, "--admin-address", &admin]].concat();
    assert_says(&control_plane(&args).await, RUNTIME, &[&api, "--address"]);
    assert!(!state.join("root.key").exists(), "no authority is made by a control plane that fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_directory_of_objects_is_named() {
    let mesh = Mesh::start().await;
    let missing = mesh.logs().join("no-such-directory");
    let state = mesh.logs().join("third-state");
    let (api, admin) = (format!("{}:0", mesh.free_address()), format!("{}:0", mesh.free_address()));
    let args = ["--config-dir", missing.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
    let args = [&args[..], &["--address", &api, "--admin-address", &admin]].concat();
    let output = control_plane(&args).await;
    assert!(output.code == USAGE || output.code == RUNTIME, "{output:?}");
    assert_says(&output, output.code, &["no-such-directory"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_control_plane_are_for_their_owner_only() {
    let mesh = Mesh::start().await;
    for entry in std::fs::read_dir(mesh.state_dir()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".key") {
            assert_eq!(mode, 0o600, "{name}");
        }
        assert_eq!(mode & 0o022, 0, "{name} can be written by others");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_only_beside_a_control_planes_keys() {
    let empty = tempfile::tempdir().unwrap();
    let state = empty.path().to_str().unwrap();
    let args = ["token", "--namespace", "a", "--service-account", "b", "--state-dir", state];
    let output = run(&bins().pillion, args, &[], SOON).await;
    assert_says(&output, RUNTIME, &[state, "pillion control-plane"]);
    assert_eq!(std::fs::read_dir(state).unwrap().count(), 0, "nothing is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_version_are_answers_and_no_errors() {
    for program in [&bins().pillion, &bins().proxy, &bins().control_plane] {
        for flag in ["--help", "--version"] {
            let output = run(program, [flag], &[], SOON).await;
            assert_eq!(output.code, Some(0), "{} {flag}: {output:?}", program.display());
            assert!(output.stdout.contains("illion"), "{output:?}");
            assert_eq!(output.stderr, "", "{} {flag}", program.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_one_line_an_event_in_utc_and_json_if_asked_for() {
    let mesh = Mesh::start().await;
    let pod = mesh.pod("shop/json").flags(["--log-format", "json"]).start().await;
    let log = pod.sidecar().log();
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| {
            panic!("{error} in the line {line}");
        });
        let time = event["timestamp"].as_str().unwrap_or_default();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
    }
    let pod = mesh.pod("shop/text").start().await;
    for line in pod.sidecar().log().lines() {
        let time = line.split(' ').next().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{line}");
        assert!(!line.contains('\u{1b}'), "no colours in a file: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_written_to_no_log() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop", "web", "1h").await;
    let token = std::fs::read_to_string(token).unwrap();
    let pod = mesh.pod("shop/web").flags(["--log-level", "trace"]).start().await;
    let secret = token.trim().rsplit('.').next().unwrap();
    assert!(secret.len() > 20, "{token}");
    assert!(!pod.sidecar().log().contains(secret));
    assert!(!mesh.control_plane().log().contains(secret));
}
