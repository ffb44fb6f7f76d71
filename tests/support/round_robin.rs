//! A proxy that sends each request to another server, as a balancer without stickiness does.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// A proxy on a free port of loopback. Runs until the process ends.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin {
    pub address: SocketAddr,
}

impl RoundRobin {
    /// Starts a proxy before servers that speak HTTP/1.1.
    pub fn start(servers: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let servers = servers.to_vec();
        thread::spawn(move || {
            for (client, server) in listener.incoming().zip(servers.iter().cycle()) {
                let (Ok(client), server) = (client, *server) else { continue };
                thread::spawn(move || pass(&client, server));
            }
        });
        Self { address }
    }
}

/// Passes one request and its answer. The request says that its connection ends, so that the next one comes on
/// another connection. An error ends the connection.
fn pass(client: &TcpStream, server: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut request = BufReader::new(client);
    let mut line = Vec::new();
    while line != b"\r\n" {
        server.write_all(&line)?;
        line.clear();
        if request.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
    }
    server.write_all(b"Connection: close\r\n\r\n")?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // The client keeps its side open while it waits for the answer.
            let _ = io::copy(&mut request, &mut &server);
        });
        let copied = io::copy(&mut &server, &mut &*client);
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
        copied.map(drop)
    })
}
