//! Messages between nodes: one TCP connection for each direction, with frames of length, group and
//! message. What is sent in one turn of a thread leaves with one system call.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use peer_common::Args;
use protobuf::{CodedInputStream, Message as _};
use raft::eraftpb::Message;
use socket2::SockRef;

use crate::driver::Input;

/// Length of the message and group, both of 32 bits.
const HEADER: usize = 8;
/// What a node that doesn't read may have waiting. More is dropped, and raft sends it again.
const MAX_QUEUED: usize = 128 << 20;
const READ_BYTES: usize = 256 << 10;
const RECONNECT: Duration = Duration::from_millis(50);

/// Ways to the other nodes.
pub(crate) struct Transport(HashMap<u64, Outbox>);

#[derive(Default)]
struct Outbox {
    queue: Mutex<Queue>,
    /// Told when the sending thread has something to do.
    left_over: Condvar,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// None while there is no connection: messages are dropped then.
    socket: Option<TcpStream>,
    /// The sending thread has bytes of its own, which come first.
    sending: bool,
}

impl Transport {
    /// Listens, and connects to the other nodes in the background.
    pub(crate) fn start(args: &Args, inputs: &Sender<Input>) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(args.address(args.id))?;
        let to_accept = inputs.clone();
        spawn("accept", move || accept(&listener, &to_accept));
        let transport = Arc::new(Self(args.others().map(|id| (id, Outbox::default())).collect()));
        for id in args.others() {
            let (transport, address) = (transport.clone(), args.address(id));
            spawn("send", move || transport.0[&id].run(address));
        }
        Ok(transport)
    }

    /// Whether there is a connection to every node.
    pub(crate) fn connected(&self) -> bool {
        self.0.values().all(|outbox| outbox.lock().socket.is_some())
    }

    /// Puts a message into its receiver's queue, where it stays until the next flush.
    pub(crate) fn send(&self, group: usize, message: &Message) {
        let mut queue = self.0[&message.to].lock();
        if queue.socket.is_none() || queue.bytes.len() > MAX_QUEUED {
            return;
        }
        let begin = queue.bytes.len();
        queue.bytes.extend_from_slice(&[0; HEADER]);
        message.write_to_vec(&mut queue.bytes).expect("a message can be encoded");
        let length = (queue.bytes.len() - begin - HEADER) as u32;
        queue.bytes[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        queue.bytes[begin + 4..begin + HEADER].copy_from_slice(&(group as u32).to_le_bytes());
    }

    /// Sends what is queued. What a socket doesn't take at once is left to its thread.
    pub(crate) fn flush(&self) {
        self.0.values().for_each(Outbox::flush);
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("a panic ends the process")
    }

    fn flush(&self) {
        let mut queue = self.lock();
        if queue.sending || queue.bytes.is_empty() {
            return;
        }
        let Queue { bytes, socket: Some(socket), .. } = &mut *queue else { return };
        let sent =
            SockRef::from(&*socket).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        // A broken connection is the sending thread's to find and to make anew.
        bytes.drain(..sent.unwrap_or(0));
        if !bytes.is_empty() {
            queue.sending = true;
            self.left_over.notify_one();
        }
    }

    fn run(&self, address: SocketAddr) {
        loop {
            let Ok(socket) = connect(address) else {
                thread::sleep(RECONNECT);
                continue;
            };
            let Err(error) = self.send_left_over(&socket) else { continue };
            eprintln!("connection to {address}: {error}");
            *self.lock() = Queue::default();
        }
    }

    fn send_left_over(&self, mut socket: &TcpStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut queue = self.lock();
        queue.socket = Some(socket.try_clone()?);
        loop {
            while !queue.sending {
                queue = self.left_over.wait(queue).expect("a panic ends the process");
            }
            std::mem::swap(&mut bytes, &mut queue.bytes);
            drop(queue);
            socket.write_all(&bytes)?;
            bytes.clear();
            queue = self.lock();
            queue.sending = !queue.bytes.is_empty();
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn accept(listener: &TcpListener, inputs: &Sender<Input>) {
    for socket in listener.incoming() {
        let inputs = inputs.clone();
        spawn("receive", move || {
            let received = socket.and_then(|socket| receive(socket, &inputs));
            if let Err(error) = received {
                eprintln!("receiving: {error}");
            }
        });
    }
}

/// Hands on messages, as many at a time as have come, until the connection ends.
fn receive(mut socket: TcpStream, inputs: &Sender<Input>) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let mut filled = 0;
    loop {
        if buffer.len() - filled < READ_BYTES / 2 {
            // Only what has come moves, should the buffer move.
            buffer.truncate(filled);
            buffer.resize(filled + READ_BYTES, 0);
        }
        match socket.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            read => filled += read,
        }
        let mut messages = Vec::new();
        while let Some(&header) = buffer[..filled].first_chunk::<HEADER>() {
            let mut header = &header[..];
            let (length, group) = (header.get_u32_le() as usize, header.get_u32_le() as usize);
            if filled < HEADER + length {
                break;
            }
            let frame = buffer.split_to(HEADER + length).freeze();
            filled -= frame.len();
            messages.push((group, decode(&frame.slice(HEADER..))?));
        }
        if !messages.is_empty() && inputs.send(Input::Messages(messages)).is_err() {
            return Ok(());
        }
    }
}

/// Entries' bytes stay where they are, as parts of the frame.
fn decode(frame: &Bytes) -> io::Result<Message> {
    let mut message = Message::default();
    let decoded = message.merge_from(&mut CodedInputStream::from_carllerche_bytes(frame));
    decoded.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok(message)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned.expect("a thread can be started");
}
