//! An application that nobody wrote for the mesh: Flask from PyPI, called with curl.

use std::net::SocketAddr;
use std::time::Duration;

use tests::client;
use tests::mesh::Mesh;
use tests::poll::{self, SOON};
use tests::process::{Process, run};
use tests::{tools, yaml};

const APP: &str = "\
from flask import Flask, jsonify, request

app = Flask(__name__)


@app.route('/api/data', methods=['GET'])
def data():
    return jsonify(request.args)
";

const PORT: u16 = 5000;

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_flask_application_is_called_with_curl_through_two_sidecars() {
    let python = tools::python_with_flask().await;
    let curl = tools::find("curl", "curl");
    let mesh = Mesh::with_objects(yaml::service("shop/flask", 80, PORT)).await;
    let address = mesh.free_address();
    let file = mesh.logs().join("app.py");
    std::fs::write(&file, APP).unwrap();
    let (host, port) = (address.to_string(), PORT.to_string());
    let args =
        ["-m", "flask", "--app", file.to_str().unwrap(), "run", "--host", &host, "--port", &port];
    let _flask = Process::start("flask", &mesh.logs(), &python, args, &[]);
    poll::until("Flask answers", SOON, async || {
        client::get_direct(SocketAddr::new(address, PORT), "/api/data").await.map(drop)
    })
    .await;
    let flags = ["--service", "shop/flask", "--app-port", &port];
    let pod = mesh.pod("shop/flask").address(address).flags(flags).start().await;
    let web = mesh.pod("shop/web").start().await;
    web.until_known("flask.shop:80").await;

    let proxy = format!("http://{}", web.proxy());
    let url = "http://flask.shop/api/data?name=pillion&n=1";
    let args =
        ["--silent", "--show-error", "--fail-with-body", "--noproxy", "", "--proxy", &proxy, url];
    let output = run(&curl, args, &[], Duration::from_secs(60)).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let answer: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(answer, serde_json::json!({"name": "pillion", "n": "1"}));

    let post = ["--silent", "--output", "-", "--write-out", "%{http_code}", "--data", "x=1"];
    let args = post.into_iter().chain(["--noproxy", "", "--proxy", &proxy, url]);
    let output = run(&curl, args, &[], Duration::from_secs(60)).await;
    assert!(output.stdout.ends_with("405"), "Flask's own refusal comes through: {output:?}");
    let metrics = pod.metrics().await;
    let mutual =
        metrics.sum("pillion_requests_total", &[("direction", "inbound"), ("tls", "mutual")]);
    assert_eq!(mutual, 2.0, "{}", metrics.show("pillion_requests_total"));
}
