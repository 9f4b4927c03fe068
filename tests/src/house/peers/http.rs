//! HTTP/1.1: nginx and curl.

use super::{Exchange, FirstByte, Kit, Peer, Server};
use crate::house::Program;

/// nginx and curl.
pub(super) static PEER: Peer = Peer {
    protocol: "HTTP/1.1",
    server: "nginx",
    client: "curl",
    name: "nginx",
    ports: (80, 8080),
    first_byte: FirstByte::After(b"GET /hello HTTP/1.1\r\nhost: nginx\r\n\r\n"),
    serve,
    talk,
    lives: None,
};

/// Static answers, an answer whose length nginx does not know (SSI), and files that can be put.
const CONFIGURATION: &str = r#"
daemon off;
pid nginx.pid;
error_log stderr;
worker_processes 1;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen 8080;
    listen [::]:8080;
    root files;
    location = /hello { return 200 "hello from nginx\n"; }
    location = /seen { return 200 "$request_method $http_x_custom\n"; }
    location /chunked/ { ssi on; ssi_types *; }
    location /put/ { dav_methods PUT DELETE; client_max_body_size 20m; }
  }
}
"#;

fn serve(kit: &Kit<'_>) -> Server {
    let configuration = kit.file("nginx.conf", CONFIGURATION);
    let directories = "mkdir -p files/chunked files/put; echo chunk by chunk >files/chunked/text";
    Server {
        setup: vec![kit.shell("directories.sh", directories, &[])],
        app: Program::find("nginx", "nginx-light").args([
            "-p",
            &kit.path(""),
            "-c",
            &configuration,
        ]),
        probe: None,
    }
}

fn talk(kit: &Kit<'_>) -> Vec<Exchange> {
    let large = kit.file("large", &"0123456789abcdef".repeat(256 * 1024));
    let copy = kit.path("copy");
    let put = "http://nginx/put/large";
    let exchange = |args: &[&str], prints| Exchange {
        client: Program::curl(&["--http1.1"]).args(args),
        prints,
    };
    vec![
        exchange(&["http://nginx/hello"], "hello from nginx"),
        exchange(&["-H", "x-custom: yes", "-X", "DELETE", "http://nginx.shop/seen"], "DELETE yes"),
        exchange(
            &["-w", "%{num_connects}", "http://nginx/hello", "http://nginx/hello"],
            "hello from nginx\n1hello from nginx\n0",
        ),
        exchange(&["http://nginx/chunked/text"], "chunk by chunk"),
        exchange(&["-o", "/dev/null", "-w", "%{http_code}", "http://nginx/none"], "404"),
        exchange(
            &["-w", "%{http_code}", "-T", &large, "-H", "transfer-encoding: chunked", put],
            "201",
        ),
        exchange(&["-o", &copy, "-w", "%{http_code} %{size_download}", put], "200 4194304"),
        Exchange { client: Program::find("cmp", "diffutils").args([&large, &copy]), prints: "" },
    ]
}
