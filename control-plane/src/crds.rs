//! The definitions of Pillion's own kinds, as an API server needs them; made from the types that
//! read the objects, so that both say the same.

use kube::CustomResourceExt;

use crate::object::inbound_policy::InboundPolicy;

/// All of them, YAML.
///
/// # Errors
/// When a definition cannot be written as YAML.
pub fn yaml() -> Result<String, serde_norway::Error> {
    serde_norway::to_string(&InboundPolicy::crd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_what_the_types_say() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/base/crds/inboundpolicies.yaml");
        let written = std::fs::read_to_string(file).unwrap();
        assert_eq!(written, yaml().unwrap(), "write it anew: pillion crds > {file}");
    }
}
