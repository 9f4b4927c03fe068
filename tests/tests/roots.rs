//! Roots come into a running mesh and are taken out again, by nothing but its bundle file. Two
//! meshes of one trust domain stand for the old authority and the new.

use std::net::IpAddr;
use std::time::Duration;

use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::yaml;

use crate::shop::API;

/// Within this a root that is removed must have had its effect (and one that is added, too).
const EFFECT: Duration = Duration::from_secs(60);

/// A client in the mesh `here` of an application in the mesh `there`.
async fn across(here: &Mesh, there: &Mesh) -> (Pod, Pod) {
    let api = there.pod("shop/api").app(App::http()).start().await;
    here.write("api.yaml", &objects(api.address()));
    let web = here.pod("shop/web").start().await;
    poll::until_true("the endpoint is known", SOON, async || {
        web.get(API).await.error() == Some("tls_handshake_failed")
    })
    .await;
    (web, api)
}

fn objects(api: IpAddr) -> String {
    yaml::service("shop/api", 80, APP_PORT)
        + &yaml::endpoints("shop/api", APP_PORT, &[api])
        + &yaml::pod("shop/api-1", "api", api)
}

fn root(of: &Mesh) -> String {
    std::fs::read_to_string(of.state_dir().join("root.pem")).unwrap()
}

/// Puts a bundle in place as deployment tools do.
fn believe(mesh: &Mesh, roots: &str) {
    let aside = mesh.logs().join("bundle.pem");
    std::fs::write(&aside, roots).unwrap();
    std::fs::rename(aside, mesh.bundle()).unwrap();
}

async fn until_answered(web: &Pod, status: u16) {
    poll::until(&format!("the answer is {status}"), EFFECT, async || {
        let answer = web.get(API).await;
        if answer.status == status { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_believed_and_no_more_without_a_restart_of_anything() {
    let (here, there) = (Mesh::start().await, Mesh::start().await);
    let (web, api) = across(&here, &there).await;
    let both = root(&here) + &root(&there);
    believe(&here, &both);
    believe(&there, &both);
    until_answered(&web, 200).await;
    // Connections are open now, and hang on the root.
    believe(&there, &root(&there));
    until_answered(&web, 503).await;
    let before = api.app().requests();
    assert_eq!(web.get(API).await.status, 503);
    assert_eq!(api.app().requests(), before);
}

/// A volume that is gone for a while is no reason to begin another mesh.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_whose_directory_is_empty_goes_on_with_what_it_had() {
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let _api = mesh.pod("shop/api").app(App::http()).start().await;
    let web = mesh.pod("shop/web").start().await;
    web.until_answered_by(API, 1).await;
    for entry in std::fs::read_dir(mesh.state_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "pem" || kind == "key") {
            std::fs::remove_file(path).unwrap();
        }
    }
    poll::until("the loss is told", EFFECT, async || {
        let log = mesh.control_plane().log();
        if log.contains("cannot open the authority anew") { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert!(!mesh.bundle().exists(), "no other authority is made");
    web.until_answered_by(API, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_changes_while_the_control_plane_is_away_is_told_when_it_is_back() {
    let (here, there) = (Mesh::start().await, Mesh::start().await);
    let (web, _api) = across(&here, &there).await;
    believe(&here, &(root(&here) + &root(&there)));
    there.control_plane().kill();
    believe(&there, &(root(&there) + &root(&here)));
    there.restart_control_plane().await;
    until_answered(&web, 200).await;
}
