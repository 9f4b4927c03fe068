//! What is sent to a pod.

use crate::world::{ANY, FAR, LOOPBACK, POD, World, said};

#[test]
fn what_reaches_a_workload_goes_to_the_sidecar_and_names_its_destination() {
    let world = World::redirected("");
    let _sidecar = world.pod.serve("sidecar", ANY, 15006);
    let _app = world.pod.serve("app", ANY, 8080);
    for address in POD {
        assert_eq!(world.far.ask(address, 8080), said("sidecar", address, 8080));
    }
}

#[test]
fn the_outbound_port_is_not_reached_from_outside() {
    let world = World::redirected("");
    let _sidecar = world.pod.serve("sidecar", ANY, 15006);
    let _outbound = world.pod.serve("outbound", ANY, 15001);
    for address in POD {
        assert_eq!(world.far.ask(address, 15001), said("sidecar", address, 15001));
    }
}

#[test]
fn the_mesh_and_admin_ports_are_reached_directly() {
    let world = World::redirected("--admin-port 7020");
    let _sidecar = world.pod.serve("sidecar", ANY, 15006);
    let _mesh = world.pod.serve("mesh", ANY, 15008);
    let _admin = world.pod.serve("admin", ANY, 7020);
    for address in POD {
        assert_eq!(world.far.ask(address, 15008), said("mesh", address, 15008));
        assert_eq!(world.far.ask(address, 7020), said("admin", address, 7020));
        assert_eq!(world.far.ask(address, 15020), said("sidecar", address, 15020));
    }
}

#[test]
fn excluded_ports_are_reached_directly() {
    let world = World::redirected("--exclude-inbound-ports 22 --inbound-port 7006");
    let _sidecar = world.pod.serve("sidecar", ANY, 7006);
    let _shell = world.pod.serve("shell", ANY, 22);
    for address in POD {
        assert_eq!(world.far.ask(address, 22), said("shell", address, 22));
        assert_eq!(world.far.ask(address, 23), said("sidecar", address, 23));
    }
}

#[test]
fn excluded_subnets_reach_the_workload_directly() {
    let flags = format!("--exclude-inbound-subnets {},fd77::/64", FAR[0]);
    let world = World::redirected(&flags);
    let _sidecar = world.pod.serve("sidecar", ANY, 15006);
    let _app = world.pod.serve("app", ANY, 8080);
    for address in POD {
        assert_eq!(world.far.ask(address, 8080), said("app", address, 8080));
    }
    world.install("--exclude-inbound-subnets 10.77.0.2,fd77::2");
    for address in POD {
        assert_eq!(world.far.ask(address, 8080), said("sidecar", address, 8080));
    }
}

#[test]
fn a_pod_reaches_itself_directly() {
    let world = World::redirected("");
    let _sidecar = world.pod.serve("sidecar", ANY, 15006);
    let _app = world.pod.serve("app", ANY, 8080);
    for address in [LOOPBACK, POD].concat() {
        assert_eq!(world.pod.ask(address, 8080), said("app", address, 8080));
    }
}
