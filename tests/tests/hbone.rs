//! HBONE with a sidecar that is not ours: Envoy, which knows nothing of Pillion but the root of
//! its trust.

mod from_envoy;
mod to_envoy;

use tests::envoy::Tls;
use tests::mesh::Mesh;
use tests::svid::Svid;

use crate::shop::Shop;

/// Envoy as the workload `shop/envoy` of `mesh`, which talks to nobody but `shop/PEER`.
async fn envoy_of(mesh: &Mesh, peer: &str) -> Tls {
    let svid = Svid::signed(mesh, "envoy", &Shop::identity("envoy")).await;
    Tls { svid, bundle: mesh.bundle(), peer: Shop::identity(peer) }
}
