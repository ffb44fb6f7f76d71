//! An API server with one resource, its store's pods, and port-forwards to them over real WebSocket connections.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

pub const NAMESPACE: &str = "pantry";
pub const UID: &str = "5f1c2c1e-0000-4000-8000-000000000001";

/// Port of the store's write listener, as the first bytes of a channel.
const PORT: [u8; 2] = 8090_u16.to_le_bytes();

/// Way in which the API server treats a port-forward.
#[derive(Clone, Debug)]
pub enum Forward {
    /// Refuses it with this status and this message.
    Refuse(u16, &'static str),
    /// Does not answer, as for a pod whose node has vanished.
    Silent,
    /// Answers 101 without a word about WebSocket.
    Garbled,
    /// Reports on the error channel that the port cannot be reached.
    Report(&'static str),
    /// Connects it to a registry.
    To(SocketAddr),
    /// Connects it to a registry, and ends its own direction after a number of bytes of the client, without closing.
    HalfClosed(SocketAddr, u64),
    /// Connects it to a registry, and closes it after a number of bytes of the client.
    Closed(SocketAddr, u64),
}

type Script = dyn Fn(&str, usize) -> Forward + Send + Sync;

/// Answer to a path, in place of the usual one.
pub type Refused = Option<(&'static str, u16, &'static str)>;

pub struct ApiServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    resource: Value,
    /// Other objects by path, which clients can create and apply; `None` if there are only the resource and its pods.
    objects: Option<Mutex<BTreeMap<String, Value>>>,
    /// Bodies that clients have sent, by path.
    bodies: Mutex<Vec<(String, Value)>>,
    pods: Mutex<Vec<Value>>,
    script: Box<Script>,
    refused: Refused,
    requests: Mutex<Vec<String>>,
}

/// Resource with a store.
pub fn resource() -> Value {
    json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry",
        "metadata": {"name": "quinistry", "namespace": NAMESPACE, "uid": UID},
        "spec": {"basePort": 5100, "store": {"copies": 3}},
    })
}

/// Pod of a store.
pub fn pod(name: &str, is_ready: bool) -> Value {
    let ready = if is_ready { "True" } else { "False" };
    json!({
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"nodeName": format!("node-of-{name}")},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    })
}

impl ApiServer {
    /// Starts an API server whose script gets the name of the pod and the number of its earlier port-forwards.
    pub fn start(
        resource: Value,
        pods: Vec<Value>,
        refused: Refused,
        script: impl Fn(&str, usize) -> Forward + Send + Sync + 'static,
    ) -> Self {
        let objects = None;
        let (requests, bodies) = (Mutex::default(), Mutex::default());
        let (pods, script) = (Mutex::new(pods), Box::new(script));
        Self::serve(Shared { resource, objects, bodies, pods, script, refused, requests })
    }

    /// Starts an API server that also has other objects, by path. An object that is applied gets no fields of the request if
    /// it is there already.
    pub fn start_with(
        objects: BTreeMap<String, Value>,
        resource: Value,
        pods: Vec<Value>,
        script: impl Fn(&str, usize) -> Forward + Send + Sync + 'static,
    ) -> Self {
        let objects = Some(Mutex::new(objects));
        let (requests, bodies) = (Mutex::default(), Mutex::default());
        let (pods, script) = (Mutex::new(pods), Box::new(script));
        Self::serve(Shared { resource, objects, bodies, pods, script, refused: None, requests })
    }

    fn serve(shared: Shared) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(shared);
        let serving = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), serving) = (client, serving.clone()) else { continue };
                thread::spawn(move || serving.answer(&client));
            }
        });
        Self { address, shared }
    }

    /// Returns the last body that was sent to this path.
    pub fn body(&self, path: &str) -> Option<Value> {
        let bodies = self.shared.bodies.lock().unwrap();
        bodies.iter().rev().find(|(sent_to, _)| sent_to == path).map(|(_, body)| body.clone())
    }

    /// Returns the paths that were asked for and begin with this text.
    pub fn requests(&self, begin: &str) -> Vec<String> {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|path| path.starts_with(begin)).cloned().collect()
    }
}

/// Writes a kubeconfig for an API server, and returns its path.
pub fn kubeconfig(folder: &Path, server: SocketAddr) -> String {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: 'http://{server}'}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{token: x}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

impl Shared {
    fn answer(&self, client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { return Ok(()) };
        let field = |name: &str| {
            let fields = head.iter().filter_map(|line| line.split_once(": "));
            fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        let mut body = vec![0; field("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !body.is_null() {
            let path = path.split('?').next().unwrap().to_owned();
            self.bodies.lock().unwrap().push((path, body.clone()));
        }
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let forward =
            path.strip_prefix(&format!("{pods}/")).and_then(|path| path.split_once("/portforward?"));
        let earlier = {
            let mut requests = self.requests.lock().unwrap();
            let begin = path.split('?').next().unwrap();
            let earlier = requests.iter().filter(|earlier| earlier.starts_with(begin)).count();
            requests.push(path.to_owned());
            earlier
        };
        if let Some((_, status, message)) = self.refused.filter(|(refused, ..)| path.starts_with(refused)) {
            return respond(client, status, &status_of(status, message));
        }
        match forward {
            Some((pod, "ports=8090")) => {
                let forward = (self.script)(pod, earlier);
                assert_eq!(field("authorization").as_deref(), Some("Bearer x"));
                assert_eq!(field("upgrade").as_deref(), Some("websocket"));
                assert_eq!(field("sec-websocket-version").as_deref(), Some("13"));
                assert_eq!(field("sec-websocket-protocol").as_deref(), Some("v4.channel.k8s.io"));
                Self::forward(reader, client, &field("sec-websocket-key").unwrap(), &forward)
            }
            Some(_) => respond(client, 400, &status_of(400, "other ports")),
            None if path.starts_with(&format!("{pods}?")) && path.contains("role%3Dstore") => {
                assert!(path.contains(UID), "{path}");
                let pods = self.pods.lock().unwrap();
                respond(client, 200, &json!({"kind": "PodList", "metadata": {}, "items": *pods}))
            }
            None if path.ends_with("/quinistries/quinistry") && !self.resource.is_null() => {
                respond(client, 200, &self.resource)
            }
            None if self.objects.is_some() => {
                let method = head[0].split(' ').next().unwrap();
                let (status, answer) = self.object(method, path.split('?').next().unwrap(), body);
                respond(client, status, &answer)
            }
            None => respond(client, 404, &status_of(404, "not found")),
        }
    }

    /// Reads, lists, creates or applies objects.
    fn object(&self, method: &str, path: &str, mut body: Value) -> (u16, Value) {
        let mut objects = self.objects.as_ref().unwrap().lock().unwrap();
        match (method, objects.get(path)) {
            ("GET" | "PATCH", Some(found)) => (200, found.clone()),
            ("PATCH", None) => (200, body),
            ("POST", _) => {
                if let Some(name) = body["metadata"]["name"].as_str() {
                    objects.insert(format!("{path}/{name}"), body.clone());
                }
                body["status"] = json!({"allowed": true});
                (201, body)
            }
            ("GET", None) if path.ends_with('s') => {
                let plural = path.rsplit('/').next().unwrap();
                let root = path.strip_suffix(plural).unwrap();
                let is_inside = |other: &str| {
                    let (parent, _) = other.rsplit_once('/').unwrap();
                    parent == path
                        || (parent.starts_with(&format!("{root}namespaces/"))
                            && parent.ends_with(&format!("/{plural}")))
                };
                let items: Vec<&Value> =
                    objects.iter().filter(|(other, _)| is_inside(other)).map(|(_, one)| one).collect();
                (200, json!({"kind": "List", "metadata": {}, "items": items}))
            }
            _ => (404, status_of(404, "not found")),
        }
    }

    fn forward(
        mut reader: BufReader<&TcpStream>,
        mut client: &TcpStream,
        key: &str,
        forward: &Forward,
    ) -> io::Result<()> {
        let accept = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
        let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &accept));
        let agree = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: \
             {accept}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        );
        let header = |channel: u8| [0x82, 3, channel, PORT[0], PORT[1]];
        let (registry, end, is_half) = match *forward {
            Forward::Refuse(status, message) => return respond(client, status, &status_of(status, message)),
            Forward::Silent => return drain(&mut reader),
            Forward::Garbled => {
                return client.write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                );
            }
            Forward::Report(message) => {
                client.write_all(agree.as_bytes())?;
                client.write_all(&[header(0), header(1)].concat())?;
                client.write_all(&frame(1, message.as_bytes()))?;
                return drain(&mut reader);
            }
            Forward::To(registry) => (registry, u64::MAX, false),
            Forward::HalfClosed(registry, end) => (registry, end, true),
            Forward::Closed(registry, end) => (registry, end, false),
        };
        client.write_all(agree.as_bytes())?;
        client.write_all(&[header(0), header(1)].concat())?;
        // A sign of life that clients must answer.
        client.write_all(&[0x89, 2, b'h', b'i'])?;
        let registry = TcpStream::connect(registry)?;
        registry.set_nodelay(true)?;
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = vec![0; 32 << 10];
                while let Ok(length @ 1..) = (&registry).read(&mut buffer) {
                    let mut client = client;
                    if client.write_all(&frame(0, &buffer[..length])).is_err() {
                        break;
                    }
                }
                let _ = (&*client).write_all(&[0x88, 0]);
                let _ = client.shutdown(Shutdown::Write);
            });
            let mut came = 0;
            let result = loop {
                match unmasked(&mut reader) {
                    Ok((0x82, payload)) if payload[0] == 0 => {
                        came += payload.len() as u64 - 1;
                        if came > end {
                            if is_half {
                                let _ = client.shutdown(Shutdown::Write);
                                break drain(&mut reader);
                            }
                            break client.shutdown(Shutdown::Both);
                        }
                        if let Err(error) = (&registry).write_all(&payload[1..]) {
                            break Err(error);
                        }
                    }
                    Ok((0x8a, payload)) => assert_eq!(payload, b"hi"),
                    Ok((0x89, _)) => {}
                    Ok((0x88, _)) | Err(_) => break Ok(()),
                    Ok(other) => panic!("a frame of an unknown kind: {other:?}"),
                }
            };
            let _ = registry.shutdown(Shutdown::Both);
            result
        })
    }
}

fn status_of(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code})
}

fn respond(mut client: &TcpStream, status: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all((head + &body).as_bytes())
}

/// Returns a message of a server.
fn frame(channel: u8, data: &[u8]) -> Vec<u8> {
    let length = data.len() + 1;
    let mut bytes = vec![0x82];
    if length < 126 {
        bytes.push(u8::try_from(length).unwrap());
    } else {
        bytes.push(126);
        bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    }
    bytes.push(channel);
    bytes.extend_from_slice(data);
    bytes
}

/// Reads a frame of a client, and returns its first byte and its payload.
fn unmasked(reader: &mut BufReader<&TcpStream>) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    assert_eq!(head[1] & 0x80, 0x80, "clients mask");
    let length = match head[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            usize::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            reader.read_exact(&mut length)?;
            usize::try_from(u64::from_be_bytes(length)).unwrap()
        }
        length => usize::from(length),
    };
    let (mut mask, mut payload) = ([0; 4], vec![0; length]);
    reader.read_exact(&mut mask)?;
    reader.read_exact(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((head[0], payload))
}

/// Reads until the client closes the connection.
fn drain(reader: &mut BufReader<&TcpStream>) -> io::Result<()> {
    let mut rest = [0; 4096];
    while reader.read(&mut rest)? > 0 {}
    Ok(())
}
