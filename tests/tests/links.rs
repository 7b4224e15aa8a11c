//! The links: every way of getting frames on the wire gives the same trace.

mod common;

use common::{FAMILIES, assert_right, assert_right_but_silent, server, trace};
use insession_lab::Lab;

#[test]
fn packet_link_on_a_connection_of_the_kernels() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        let record = trace(&lab, &["--link", "packet", "-p", "80", &server(&lab, v6)]);
        assert_right(&lab, &record);
        let link = record.link.as_ref().unwrap();
        assert_eq!((link.kind.as_str(), link.mode.as_deref()), ("packet", None));
        assert_eq!(lab.tcp_sockets("server").unwrap(), 0);
        assert_eq!(lab.tcp_sockets("client").unwrap(), 0);
    }
}

#[test]
fn generic_xdp() {
    let lab = Lab::up("chain").unwrap();
    for v6 in FAMILIES {
        let arguments = [
            "--link",
            "xdp",
            "--xdp-mode",
            "generic",
            "-p",
            "80",
            &server(&lab, v6),
        ];
        let record = trace(&lab, &arguments);
        assert_right(&lab, &record);
        let link = record.link.as_ref().unwrap();
        assert_eq!(
            (link.kind.as_str(), link.mode.as_deref()),
            ("xdp", Some("generic"))
        );
    }
}

#[test]
fn packet_link_through_middleboxes() {
    for name in ["firewall", "synproxy", "no_sack"] {
        let lab = Lab::up(name).unwrap();
        let record = trace(
            &lab,
            &["--link", "packet", "-p", "80", &server(&lab, false)],
        );
        match name {
            "synproxy" => assert_right_but_silent(&lab, &record),
            _ => assert_right(&lab, &record),
        };
    }
}
