//! What a pod sends.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::world::{ANY, FAR, LOOPBACK, NOWHERE, POD, SIDECAR, World, ask, ip, said};

#[test]
fn what_an_application_sends_reaches_the_sidecar_and_names_its_destination() {
    let world = World::redirected("");
    let _sidecar = world.pod.serve("sidecar", ANY, 15001);
    let _far = world.far.serve("far", ANY, 8080);
    for address in [FAR, NOWHERE].concat() {
        assert_eq!(world.pod.ask(address, 8080), said("sidecar", address, 8080));
    }
    assert_eq!(world.pod.ask_as(0, FAR[0], 8080), said("sidecar", FAR[0], 8080), "root's too");
}

/// At one address for all the second of them would be another connection of the first's two ends.
#[test]
fn a_client_has_its_port_at_every_destination() {
    let world = World::redirected("");
    let sidecar = world.pod.run(|| TcpListener::bind((ANY[0], 15001))).unwrap();
    let connect = |far: &str| {
        let at = |address: &str, port| SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&at(POD[0], 7007).into()).unwrap();
        socket.connect_timeout(&at(far, 8080).into(), Duration::from_secs(5)).unwrap();
        let (accepted, client) = sidecar.accept().unwrap();
        assert!(accepted.local_addr().unwrap().ip().is_loopback());
        ((socket, accepted), client.port())
    };
    let connections = [FAR[0], NOWHERE[0], "255.0.0.1", "10.255.255.255", "10.0.0.0"]
        .map(|far| world.pod.run(|| connect(far)));
    assert_eq!(connections.each_ref().map(|(_, port)| *port), [7007; 5]);
}

#[test]
fn what_the_sidecar_sends_goes_where_it_was_sent() {
    let world = World::redirected("");
    let _sidecar = world.pod.serve("sidecar", ANY, 15001);
    let _far = world.far.serve("far", ANY, 8080);
    for address in FAR {
        assert_eq!(world.pod.ask_as(SIDECAR, address, 8080), said("far", address, 8080));
    }
}

#[test]
fn the_sidecars_user_is_a_setting() {
    let world = World::redirected("--proxy-uid 7 --outbound-port 7001");
    let _sidecar = world.pod.serve("sidecar", ANY, 7001);
    let _far = world.far.serve("far", ANY, 8080);
    for address in FAR {
        assert_eq!(world.pod.ask_as(7, address, 8080), said("far", address, 8080));
        assert_eq!(world.pod.ask_as(SIDECAR, address, 8080), said("sidecar", address, 8080));
    }
}

#[test]
fn a_pod_reaches_itself_directly() {
    let world = World::redirected("");
    let _sidecar = world.pod.serve("sidecar", ANY, 15001);
    let _near = world.pod.serve("near", ANY, 8080);
    for address in [LOOPBACK, POD].concat() {
        assert_eq!(world.pod.ask(address, 8080), said("near", address, 8080));
    }
}

#[test]
fn excluded_ports_are_reached_directly() {
    let world = World::redirected("--exclude-outbound-ports 25,8080");
    let _sidecar = world.pod.serve("sidecar", ANY, 15001);
    let _far = world.far.serve("far", ANY, 8080);
    for address in FAR {
        assert_eq!(world.pod.ask(address, 8080), said("far", address, 8080));
        assert_eq!(world.pod.ask(address, 8081), said("sidecar", address, 8081));
    }
}

#[test]
fn excluded_subnets_are_reached_directly() {
    let world = World::redirected("--exclude-outbound-subnets 10.77.0.0/30,fd77::1");
    let _sidecar = world.pod.serve("sidecar", ANY, 15001);
    let _far = world.far.serve("far", ANY, 8080);
    for address in FAR {
        assert_eq!(world.pod.ask(address, 8080), said("far", address, 8080));
    }
    for address in ["10.77.0.4", "fd77::3"] {
        assert_eq!(world.pod.ask(address, 8080), said("sidecar", address, 8080));
    }
}

#[test]
fn what_a_node_offers_at_link_local_addresses_is_reached_directly() {
    let world = World::redirected("");
    let (pod, far) = (&world.pod.name, &world.far.name);
    ip(&format!("-n {far} addr add 169.254.7.7/32 dev eth0"));
    ip(&format!("-n {far} addr add fe80::77/64 dev eth0 nodad"));
    ip(&format!("-n {pod} addr add fe80::76/64 dev eth0 nodad"));
    let _sidecar = world.pod.serve("sidecar", ANY, 15001);
    let _far = world.far.serve("far", ANY, 8080);
    assert_eq!(world.pod.ask("169.254.7.7", 8080), said("far", "169.254.7.7", 8080));
    let scope = world.pod.run(|| rustix::net::netdevice::name_to_index(udp(), "eth0")).unwrap();
    let address: Ipv6Addr = "fe80::77".parse().unwrap();
    let target = SocketAddr::V6(SocketAddrV6::new(address, 8080, 0, scope));
    let answer = world.pod.run(|| ask(target)).unwrap();
    assert!(answer.starts_with("far [fe80::77"), "{answer}");
}

fn udp() -> UdpSocket {
    UdpSocket::bind("0.0.0.0:0").unwrap()
}

#[test]
fn datagrams_go_where_they_were_sent() {
    let world = World::redirected("");
    for (address, own) in FAR.into_iter().zip(POD) {
        let far = world.far.run(|| UdpSocket::bind((address, 8080))).unwrap();
        let pod = world.pod.run(|| UdpSocket::bind((own, 0))).unwrap();
        pod.send_to(b"oh", (address, 8080)).unwrap();
        far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(far.recv(&mut [0; 8]).unwrap(), 2, "{address}");
    }
}
