//! A network between the web tier and its MongoDB that can be told to break: it understands the
//! messages enough to pick a command by its name and to lose, delay, repeat, garble or make up what
//! belongs to it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bson::{Document, RawDocumentBuf};

/// What happens to a command.
#[derive(Clone)]
pub enum Fate {
    Pass,
    /// The connection ends instead.
    CutBefore,
    /// The connection ends when the server has answered, before the answer is passed on.
    CutAfter,
    /// It goes nowhere.
    Lose,
    /// The server gets it, but its answer goes nowhere.
    LoseAnswer,
    DelayAnswer(Duration),
    /// The answer's header is garbage.
    GarbleHeader,
    /// The answer's document is garbage.
    GarbleBody,
    /// Half of the answer comes, then the connection ends.
    CutInAnswer,
    /// The server never gets it, and this is the answer.
    Answer(Document),
    /// The server gets it twice, and the second answer counts.
    Repeat,
    /// The answer becomes another one.
    Edit(fn(Document) -> Document),
}

type Rule = Box<dyn Fn(&str, &Document) -> Fate + Send>;

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    rule: Mutex<Rule>,
    /// What was sent, by whatever fate.
    commands: Mutex<Vec<Document>>,
    streams: Mutex<Vec<TcpStream>>,
    has_ended: AtomicBool,
}

impl Proxy {
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: ([127, 0, 0, 1], port).into(),
            rule: Mutex::new(Box::new(|_, _| Fate::Pass)),
            commands: Mutex::default(),
            streams: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        let of_acceptor = shared.clone();
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if of_acceptor.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = of_acceptor.clone();
                // Either side may end the connection at any time, which ends the thread as well.
                thread::spawn(move || drop(shared.serve(client)));
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// From now on `rule` says what happens to a command of a name.
    pub fn set(&self, rule: impl Fn(&str) -> Fate + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(move |name, _| rule(name));
    }

    /// From now on `answer` is what the commands of this name get, and the server gets all others.
    pub fn answer(
        &self,
        command: &'static str,
        answer: impl Fn(&Document) -> Document + Send + 'static,
    ) {
        *self.shared.rule.lock().unwrap() = Box::new(move |name, document| match name == command {
            true => Fate::Answer(answer(document)),
            false => Fate::Pass,
        });
    }

    /// From now on this happens to the commands of this name, and all others pass.
    pub fn set_for(&self, command: &'static str, fate: Fate) {
        self.set(move |name| if name == command { fate.clone() } else { Fate::Pass });
    }

    /// The commands of this name so far.
    pub fn commands(&self, name: &str) -> Vec<Document> {
        let commands = self.shared.commands.lock().unwrap();
        commands
            .iter()
            .filter(|command| command.keys().next().is_some_and(|first| first == name))
            .cloned()
            .collect()
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        // The acceptor sees that at the next connection.
        let _ = TcpStream::connect(self.address);
        let _ = self.acceptor.take().map(JoinHandle::join);
        self.cut();
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        self.streams.lock().unwrap().push(client.try_clone()?);
        let mut server = TcpStream::connect(self.target)?;
        self.streams.lock().unwrap().push(server.try_clone()?);
        let outcome = self.pass_on(&mut client, &mut server);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        outcome
    }

    fn pass_on(&self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        loop {
            let request = read_message(client)?;
            let command = command_of(&request).unwrap_or_default();
            let name = command.keys().next().cloned().unwrap_or_default();
            let fate = (self.rule.lock().unwrap())(&name, &command);
            self.commands.lock().unwrap().push(command);
            match &fate {
                Fate::CutBefore => return Ok(()),
                Fate::Lose => continue,
                Fate::Answer(document) => {
                    client.write_all(&answer_to(&request, document))?;
                    continue;
                }
                Fate::Repeat => {
                    server.write_all(&request)?;
                    read_message(server)?;
                }
                _ => {}
            }
            server.write_all(&request)?;
            // A server that was asked to may answer again and again (moreToCome), as it does to its
            // monitors.
            loop {
                let mut answer = read_message(server)?;
                let more_to_come = opcode(&answer) == OP_MSG && answer[HEADER] & 2 != 0;
                match &fate {
                    Fate::CutAfter => return Ok(()),
                    Fate::LoseAnswer => break,
                    Fate::DelayAnswer(time) => thread::sleep(*time),
                    Fate::GarbleHeader => answer[..HEADER].fill(0xff),
                    Fate::GarbleBody => answer[HEADER + 5..].fill(0xff),
                    Fate::Edit(edit) => {
                        let document = command_of(&answer).unwrap_or_default();
                        answer = answer_to(&request, &edit(document));
                    }
                    Fate::CutInAnswer => return client.write_all(&answer[..answer.len() / 2]),
                    _ => {}
                }
                client.write_all(&answer)?;
                if !more_to_come {
                    break;
                }
            }
        }
    }
}

/// The wire protocol: length, id, the id that it answers, opcode; little-endian.
/// <https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>
const HEADER: usize = 16;
const OP_MSG: u32 = 2013;

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER];
    stream.read_exact(&mut message)?;
    let length = number_at(&message, 0).unwrap() as usize;
    message.resize(length.max(HEADER), 0);
    stream.read_exact(&mut message[HEADER..])?;
    Ok(message)
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn opcode(message: &[u8]) -> u32 {
    number_at(message, 12).unwrap()
}

/// The command's own document, without the sequences of documents beside it.
fn command_of(message: &[u8]) -> Option<Document> {
    let mut at = match opcode(message) {
        OP_MSG => HEADER + 4,
        // OP_QUERY: flags, the collection's name, two numbers. Only the first greeting is sent so.
        _ => {
            let name = HEADER + 4;
            let end = message[name..].iter().position(|byte| *byte == 0)?;
            return document_at(message, name + end + 1 + 8);
        }
    };
    loop {
        match message.get(at)? {
            0 => return document_at(message, at + 1),
            _ => at += 1 + number_at(message, at + 1)? as usize,
        }
    }
}

fn document_at(message: &[u8], at: usize) -> Option<Document> {
    let length = number_at(message, at)? as usize;
    let raw = RawDocumentBuf::from_bytes(message.get(at..at + length)?.to_vec()).ok()?;
    Document::try_from(raw).ok()
}

fn answer_to(request: &[u8], document: &Document) -> Vec<u8> {
    let body = document.to_vec().unwrap();
    let length = (HEADER + 4 + 1 + body.len()) as u32;
    let id = number_at(request, 4).unwrap();
    let header: Vec<u8> =
        [length, 0, id, OP_MSG, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
    [header.as_slice(), &[0], &body].concat()
}
