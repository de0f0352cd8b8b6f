//! Inside other executors: tokio's and smol's, which poll the descriptor of the ring.

use std::cell::Cell;
use std::future::Future;
use std::io::{Write as _, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::Setup;
use annulus::future::Reactor;
use annulus::op::{AcceptMulti, Read, Recv, Send};
use async_io::Async;
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

fn reactor() -> Reactor {
    Reactor::new(Setup::plain(8).build_for().expect("a ring"))
}

/// The task that turns the reactor in tokio.
fn drive(reactor: &Reactor) -> JoinHandle<std::io::Error> {
    spawn_local(reactor.drive_in_tokio().expect("tokio polls it"))
}

fn in_tokio<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(future))
}

#[test]
fn tokio_drives_the_ring_beside_its_own_sockets() {
    in_tokio(async {
        let reactor = reactor();
        let driver = drive(&reactor);
        // What completes at once, what a worker does, and what comes later.
        let (reader, mut writer) = pipe().expect("a pipe");
        let late = spawn_local(reactor.run(Read::new(reader, vec![0; 8])));
        let file = std::fs::File::open("/proc/self/exe").expect("a file");
        let read = reactor.run(Read::new(file, vec![0; 4]).at(0)).await.expect("accepted");
        assert_eq!((read.result.expect("it succeeds"), &read.buf[..]), (4, &b"\x7fELF"[..]));
        tokio::time::sleep(Duration::from_millis(2)).await;
        writer.write_all(b"later").expect("room");
        let late = late.await.expect("no panic").expect("accepted");
        assert_eq!(late.result.expect("it succeeds"), 5);
        reactor.sleep(Duration::from_millis(2)).await.expect("accepted").expect("it expires");
        driver.abort();
        assert!(driver.await.expect_err("it was aborted").is_cancelled());
    });
}

/// Accepts and echoes. The kernel ends a multishot accept when its completions overflow.
async fn serve(reactor: Reactor, listener: TcpListener) {
    let listener = Rc::new(listener);
    loop {
        let mut connections = reactor.items(AcceptMulti::new(Rc::clone(&listener)));
        while let Some(connection) = connections.next().await {
            let stream = TcpStream::from(connection.expect("it accepts"));
            spawn_local(echo(reactor.clone(), stream));
        }
    }
}

async fn echo(reactor: Reactor, mut stream: TcpStream) {
    let mut buf = Vec::with_capacity(64);
    loop {
        buf.clear();
        let received = reactor.run(Recv::new(stream, buf)).await.expect("accepted");
        if received.result.expect("it receives") == 0 {
            return;
        }
        let sent = reactor.run(Send::new(received.fd, received.buf)).await.expect("accepted");
        sent.result.expect("it sends");
        (stream, buf) = (sent.fd, sent.buf);
    }
}

#[test]
fn tokio_echoes_through_the_ring() {
    in_tokio(async {
        let reactor = reactor();
        let _driver = drive(&reactor);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = spawn_local(serve(reactor.clone(), listener));
        let answered = Rc::new(Cell::new(0));
        let clients = (0..20).map(|number: u8| {
            let answered = Rc::clone(&answered);
            spawn_local(async move {
                let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
                for round in 0..10 {
                    let mut answer = [0; 2];
                    stream.writable().await.expect("it works");
                    assert_eq!(stream.try_write(&[number, round]).expect("room"), 2);
                    loop {
                        stream.readable().await.expect("it works");
                        if let Ok(count) = stream.try_read(&mut answer) {
                            assert_eq!((count, answer), (2, [number, round]));
                            break;
                        }
                    }
                    answered.set(answered.get() + 1);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("no panic");
        }
        assert_eq!(answered.get(), 200);
        server.abort();
    });
}

#[test]
fn a_select_of_tokio_cancels_what_it_drops() {
    in_tokio(async {
        let reactor = reactor();
        let _driver = drive(&reactor);
        let (ours, _theirs) = UnixStream::pair().expect("two sockets");
        tokio::select! {
            _ = reactor.run(Recv::new(ours, vec![0; 8])) => panic!("nothing was sent"),
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
        while reactor.with_ring(|ring| ring.in_flight()) > 0 {
            yield_now().await;
        }
        // And what panics in a task takes nothing else along.
        let (reader, _writer) = pipe().expect("a pipe");
        let panics = reactor.run(Read::new(reader, vec![0; 8]));
        let task = spawn_local(async move {
            let mut panics = Box::pin(panics);
            std::future::poll_fn(|context| {
                assert!(panics.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            panic!("as told");
        });
        assert!(task.await.expect_err("it panicked").is_panic());
        while reactor.with_ring(|ring| ring.in_flight()) > 0 {
            yield_now().await;
        }
    });
}

#[test]
fn a_runtime_of_tokio_that_is_dropped_leaves_a_ring_that_works() {
    let reactor = reactor();
    let (reader, _writer) = pipe().expect("a pipe");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let _driver = drive(&reactor);
        spawn_local(reactor.run(Read::new(reader, vec![0; 8])));
        yield_now().await;
        yield_now().await;
    });
    assert_eq!(reactor.with_ring(|ring| ring.in_flight()), 1);
    drop(local); // With the read, and the task that drove the ring.
    drop(runtime);
    reactor.block_on(reactor.sleep(Duration::from_millis(1))).expect("the ring works").ok();
    assert_eq!(reactor.with_ring(|ring| ring.in_flight()), 0);
}

#[test]
fn async_io_drives_the_ring() {
    let reactor = reactor();
    let fd = Async::new_nonblocking(reactor.fd().expect("the ring has one")).expect("polled");
    let driver = reactor.drive(move |context| fd.poll_readable(context));
    let (reader, mut writer) = pipe().expect("a pipe");
    let ended = async_io::block_on(async {
        let mut driver = std::pin::pin!(driver);
        let mut late = std::pin::pin!(reactor.run(Read::new(reader, vec![0; 8])));
        let mut timer = async_io::Timer::after(Duration::from_millis(2));
        let mut written = false;
        std::future::poll_fn(|context| {
            assert!(driver.as_mut().poll(context).is_pending(), "the ring goes on");
            if !written && std::pin::Pin::new(&mut timer).poll(context).is_ready() {
                written = true;
                writer.write_all(b"later").expect("room");
            }
            late.as_mut().poll(context)
        })
        .await
    });
    assert_eq!(ended.expect("accepted").result.expect("it succeeds"), 5);
}

/// Runs a future on the executor of smol, where a task drives the reactor.
fn in_smol<T>(reactor: &Reactor, future: impl Future<Output = T>) -> T {
    let tasks = smol::LocalExecutor::new();
    let fd = Async::new_nonblocking(reactor.fd().expect("the ring has one")).expect("polled");
    let driver = tasks.spawn(reactor.drive(move |context| fd.poll_readable(context)));
    let output = smol::block_on(tasks.run(future));
    assert!(!driver.is_finished(), "the ring goes on");
    output
}

#[test]
fn smol_drives_the_ring_beside_its_own_sockets_and_timers() {
    use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let reactor = reactor();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answered = in_smol(&reactor, async {
        let serve = async {
            let mut connections = reactor.items(AcceptMulti::new(listener));
            let connection = connections.next().await.expect("an item").expect("it accepts");
            echo(reactor.clone(), TcpStream::from(connection)).await;
        };
        let talk = async {
            let mut stream = smol::net::TcpStream::connect(address).await.expect("a connection");
            for round in 0..50_u8 {
                let mut answer = [0; 2];
                stream.write_all(&[7, round]).await.expect("it is open");
                stream.read_exact(&mut answer).await.expect("it answers");
                assert_eq!(answer, [7, round]);
                smol::Timer::after(Duration::from_micros(10)).await;
            }
            50
        };
        smol::future::zip(serve, talk).await.1
    });
    assert_eq!(answered, 50);
}

#[test]
fn a_task_of_smol_that_is_dropped_cancels_its_operation() {
    let reactor = reactor();
    in_smol(&reactor, async {
        let (reader, _writer) = pipe().expect("a pipe");
        let read = async { drop(reactor.run(Read::new(reader, vec![0; 8])).await) };
        let timer = async {
            smol::Timer::after(Duration::from_millis(2)).await;
        };
        smol::future::or(read, timer).await;
        while reactor.with_ring(|ring| ring.in_flight()) > 0 {
            smol::future::yield_now().await;
        }
    });
    // The executor is gone, and with it the task that drove the ring.
    reactor.block_on(reactor.sleep(Duration::from_millis(1))).expect("the ring works").ok();
}

#[test]
fn a_ring_whose_descriptor_wakes_nobody_is_not_driven() {
    let deferring = Reactor::new(Setup::new(4).build_for().expect("a ring"));
    let defers = deferring.with_ring(|ring| ring.raw().flags());
    if !defers.contains(annulus::sys::flags::SetupFlags::DEFER_TASKRUN) {
        eprintln!("skipped: no ring defers task work before Linux 6.1");
        return;
    }
    let error = deferring.fd().expect_err("nobody would be woken");
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("Setup::plain"), "{error}");
}
