//! Own netlink against the real kernel, in a network namespace of its own, compared with what ipset shows.

mod netns;

use std::net::IpAddr;

use netns::{in_namespace, members, run, run_patiently};
use spa_server::netlink::batch::{Batch, In};
use spa_server::netlink::ipset::{Creation, Ipset};
use spa_server::netlink::nftables::{INET, socket};
use spa_server::netlink::ruleset::{elements, generation};
use spa_server::netlink::{Family, NetlinkError};

#[test]
fn sets_over_netlink_are_what_ipset_shows() {
    in_namespace("ipset", || {
        let mut ipset = Ipset::open().unwrap();
        assert_eq!(ipset.list("many"), Ok(None));
        assert_eq!(ipset.header("many"), Ok(None));
        assert_eq!(ipset.create("many", Family::V4), Ok(Creation::Created));
        assert_eq!(ipset.create("many", Family::V4), Ok(Creation::Present));
        assert!(ipset.create("many", Family::V6).is_err());
        for last in 0..10_000_u32 {
            let address = IpAddr::from((0x0a00_0000 + last).to_be_bytes());
            ipset.add("many", address.into(), 100 + last).unwrap();
        }
        let set = ipset.list("many").unwrap().unwrap();
        assert_eq!(
            (set.elements.len(), set.kind.as_str(), set.timeouts),
            (10_000, "hash:net", true)
        );
        assert_eq!(members("many").len(), 10_000);
        let one = "10.0.0.7/32".parse().unwrap();
        assert_eq!(
            (ipset.add_absent("many", one, 5), members("many").len()),
            (Ok(false), 10_000)
        );
        ipset.remove("many", one).unwrap();
        ipset.remove("many", one).unwrap();
        assert_eq!(ipset.add_absent("many", one, 5), Ok(true));
        run(
            "iptables",
            &["-A", "INPUT", "-m", "set", "--match-set", "many", "src", "-j", "ACCEPT"],
        );
        assert!(ipset.destroy("many").unwrap_err().is_busy());
        run("iptables", &["-F"]);
        ipset.flush("many").unwrap();
        assert_eq!(ipset.list("many").unwrap().unwrap().elements, []);
        run_patiently("ipset destroy many");
        ipset.destroy("many").unwrap();
        ipset.flush("many").unwrap();
        assert_eq!(ipset.names(), Ok(vec![]));
        let error = ipset.add("many", one, 5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not put 10.0.0.7/32 into the set many: there is no set of that name"
        );
    });
}

#[test]
fn a_transaction_takes_effect_as_a_whole_or_not_at_all() {
    in_namespace("batch", || {
        run("nft", &["add", "table", "inet", "t"]);
        run(
            "nft",
            &["add", "set", "inet", "t", "s", "{ type ipv4_addr; flags timeout; }"],
        );
        let place = In {
            family: INET,
            table: "t",
        };
        let mut socket = socket().unwrap();
        let mut half = Batch::default();
        half.add_element(place, "s", &[192, 0, 2, 1], Some(9000));
        half.remove_element(place, "s", &[192, 0, 2, 9]);
        half.add_element(place, "s", &[192, 0, 2, 2], Some(9000));
        assert_eq!(
            half.commit(&mut socket),
            Err(NetlinkError::Refused(2)),
            "there is no such element"
        );
        assert_eq!(elements(&mut socket, place, "s", 32), Ok(Some(vec![])));
        assert_eq!(elements(&mut socket, place, "none", 32), Ok(None));

        let mut late = Batch::at(generation(&mut socket).unwrap());
        late.add_element(place, "s", &[192, 0, 2, 1], None);
        let mut whole = Batch::default();
        whole.add_element(place, "s", &[192, 0, 2, 2], Some(9000));
        assert_eq!(whole.commit(&mut socket), Ok(()));
        assert_eq!(
            late.commit(&mut socket),
            Err(NetlinkError::Refused(85)),
            "somebody was faster"
        );
        let there = elements(&mut socket, place, "s", 32).unwrap().unwrap();
        assert_eq!((there.len(), there[0].remaining), (1, Some(9)));
    });
}
