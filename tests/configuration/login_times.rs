//! Time of the answer to wrong logins, for users that exist and users that do not.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::program::{Given, Place};
use super::users::{CONFIG, basic};
use crate::support::http::{Connection, TEST_TIMEOUT, request};

/// Wrong logins of either kind.
const LOGINS: usize = 1_000;

/// A user whose hash has the cost 8: far more work than all else about a request, and little enough to wait for.
const PASSWORDS: &str = "alice:$2a$08$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i\n";

/// Critical value of the statistic of Kolmogorov and Smirnov for two samples of [`LOGINS`], at a level of 0.001:
/// 1.949 √(2 / n).
fn critical_value() -> f64 {
    1.949 * (2.0 / f64::from(u32::try_from(LOGINS).unwrap())).sqrt()
}

/// Returns the greatest difference of two distribution functions, of which samples in ascending order are given.
fn kolmogorov_smirnov(one: &[f64], other: &[f64]) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap());
    let part =
        |sample: &[f64], value: f64| number(sample.partition_point(|of| *of <= value)) / number(sample.len());
    one.iter().chain(other).map(|value| (part(one, *value) - part(other, *value)).abs()).fold(0.0, f64::max)
}

#[test]
fn the_statistic_is_the_greatest_distance_of_two_distributions() {
    let sample = |range: std::ops::Range<u32>| range.map(f64::from).collect::<Vec<_>>();
    for (one, other, expected) in [
        (sample(0..100), sample(0..100), 0.0),
        (sample(0..100), sample(200..300), 1.0),
        (sample(0..100), sample(25..125), 0.25),
        (sample(0..50), sample(0..100), 0.5),
    ] {
        assert!((kolmogorov_smirnov(&one, &other) - expected).abs() < 1e-9, "{expected}");
        assert!((kolmogorov_smirnov(&other, &one) - expected).abs() < 1e-9, "{expected}");
    }
}

/// Connects from an address of this machine's loopback, unlike that of every other number, so that no login is
/// throttled.
fn connect_from(number: usize, target: SocketAddr) -> Connection {
    let source = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + u32::try_from(number).unwrap());
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&stream, &SocketAddrV4::new(source, 0)).unwrap();
    connect(&stream, &target).unwrap();
    Connection::over(TcpStream::from(stream), TEST_TIMEOUT, 8 << 10)
}

/// Measures, so that other programs on the machine can make it fail.
#[test]
#[ignore = "measures times; cargo test --test configuration -- --ignored --nocapture the_time_of_an_answer"]
fn the_time_of_an_answer_does_not_tell_which_users_exist() {
    let place = Place::new();
    std::fs::write(place.path("htpasswd"), PASSWORDS).unwrap();
    let registry = place.serve_ours(Given { file: Some(CONFIG), ..Given::default() });
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..LOGINS {
        // Each kind is first as often as the other.
        for kind in [number % 2, (number + 1) % 2] {
            let authorization = basic(["alice", "nemo"][kind], &format!("wrong-{number}"));
            let mut connection = connect_from(2 * number + kind, registry.peer.0);
            let request = request("GET", "/v2/", &[("Authorization", &authorization)], b"");
            let begin = Instant::now();
            assert_eq!(connection.ask(&request).status, 401);
            times[kind].push(begin.elapsed().as_secs_f64());
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times
    });
    let median = |times: &[f64]| times[times.len() / 2];
    let ratio = median(&unknown) / median(&known);
    let (distance, critical) = (kolmogorov_smirnov(&known, &unknown), critical_value());
    println!(
        "{LOGINS} logins each: median of a known user {:.3} ms, of an unknown one {:.3} ms, ratio {ratio:.4}; \
         Kolmogorov-Smirnov D {distance:.4}, told apart from {critical:.4}",
        median(&known) * 1e3,
        median(&unknown) * 1e3
    );
    assert!((0.95..1.05).contains(&ratio), "{ratio}");
    assert!(distance < critical, "{distance}");
}
