//! The same scenarios with each firewall backend, in network namespaces of their own.

// A test's helper that fails fails the test.
#![allow(clippy::unwrap_used)]

mod netns;

/// A module of tests for one backend.
macro_rules! scenarios {
    ($module:ident, $make:expr) => {
        mod $module {
            use spa_server::backend::Backend;
            use spa_server::backend::plan::Plan;

            use crate::netns::scenarios;

            fn make(plan: Plan) -> Box<dyn Backend> {
                Box::new($make(plan))
            }

            #[test]
            fn peers_of_existing_connections_are_let_in() {
                let name = concat!(stringify!($module), "-existing");
                scenarios::peers_of_existing_connections_are_let_in(name, make);
            }

            #[test]
            fn who_has_hung_up_is_no_guest() {
                scenarios::who_has_hung_up_is_no_guest(concat!(stringify!($module), "-hung-up"), make);
            }

            #[test]
            fn a_door_is_shut_without_a_grant() {
                scenarios::a_door_is_shut_without_a_grant(concat!(stringify!($module), "-traffic"), make);
            }

            #[test]
            fn a_network_lets_its_addresses_in() {
                scenarios::a_network_lets_its_addresses_in(concat!(stringify!($module), "-network"), make);
            }

            #[test]
            fn always_allowed_come_in_without_any_set() {
                scenarios::always_allowed_come_in_without_any_set(concat!(stringify!($module), "-allow"), make);
            }

            #[test]
            fn packets_to_the_knock_port_are_not_tracked() {
                scenarios::packets_to_the_knock_port_are_not_tracked(concat!(stringify!($module), "-notrack"), make);
            }
        }
    };
}

#[test]
fn the_same_with_iptables_legacy() {
    netns::again_with_legacy("", &["iptables::"]);
}

scenarios!(iptables, spa_server::backend::iptables::Iptables::new);
scenarios!(nftables, |plan| spa_server::backend::nftables::Nftables::new(
    plan, None
));
