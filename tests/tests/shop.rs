//! The mesh that most tests use: `web`, a client, calls the Service `shop/api`.

use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::yaml;

/// The URL of `api` as `web` names it.
pub(crate) const API: &str = "http://api.shop";

/// A mesh with the pods `web` and `api`, both ready and `api` answering.
pub(crate) struct Shop {
    // Dropped before the mesh, so that the pods' logs come first.
    pub(crate) web: Pod,
    pub(crate) api: Pod,
    pub(crate) mesh: Mesh,
}

impl Shop {
    /// One replica of `api` and nothing else.
    pub(crate) async fn open() -> Self {
        Self::with("", App::http()).await
    }

    /// `objects` beside the Service, and another application.
    pub(crate) async fn with(objects: &str, app: App) -> Self {
        let service = yaml::service("shop/api", 80, APP_PORT);
        let mesh = Mesh::with_objects(service + objects).await;
        let api = mesh.pod("shop/api").app(app).start().await;
        let web = mesh.pod("shop/web").start().await;
        web.until_known("api.shop:80").await;
        Self { web, api, mesh }
    }

    /// The SPIFFE ID of `account` in the namespace `shop`.
    pub(crate) fn identity(account: &str) -> String {
        format!("spiffe://{}/ns/shop/sa/{account}", tests::mesh::TRUST_DOMAIN)
    }
}

/// A mesh with the Service `shop/api`, `objects`, and as many replicas as `names`.
pub(crate) async fn replicas(objects: &str, names: &[&str]) -> (Pod, Vec<Pod>, Mesh) {
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT) + objects).await;
    let mut pods = Vec::new();
    for name in names {
        pods.push(mesh.pod("shop/api").instance(name).app(App::http()).start().await);
    }
    let web = mesh.pod("shop/web").start().await;
    web.until_answered_by(&format!("{API}/ready"), names.len()).await;
    (web, pods, mesh)
}
