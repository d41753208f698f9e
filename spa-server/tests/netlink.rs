//! Own netlink against the real kernel, in a network namespace of its own, compared with what ipset shows.

mod netns;

use std::net::IpAddr;

use netns::{in_namespace, members, run, run_patiently};
use spa_server::netlink::Family;
use spa_server::netlink::ipset::{Creation, Ipset};

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
