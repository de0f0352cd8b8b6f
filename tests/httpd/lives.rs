//! How connections live and end: silence, haste, files that change, and the end of the server.

use super::*;
use crate::programs::complains;

/// Asks for a file, and reads the head of the answer.
#[track_caller]
fn begin(server: &Server, path: &str) -> BufReader<TcpStream> {
    let mut client = server.connect();
    client.get_mut().write_all(get(path).as_bytes()).expect("room");
    assert_eq!(read_head(&mut client).status, 200);
    client
}

/// A file that takes no room, longer than all buffers on the way.
fn make_long(server: &Server, name: &str) {
    let file = File::create(server.folder.root(name)).expect("a file");
    file.set_len(64 << 20).expect("it takes no room");
}

#[test]
fn a_file_that_shrinks_meanwhile_ends_the_connection() {
    Server::each("shrinks", &[], |server| {
        make_long(&server, "long");
        server.folder.file("file", b"file");
        let mut client = begin(&server, "/long");
        // It has sent the first of it, and what it read before it cannot take back.
        client.read_exact(&mut [0; 100_000]).expect("there is more");
        let file = File::options().write(true).open(server.folder.root("long")).expect("a file");
        file.set_len(300_000).expect("it is ours");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("it ends in order");
        let sent = rest.len() + 100_000;
        assert!((300_000..64 << 20).contains(&sent), "{sent} bytes: as if it were whole");
        assert_eq!(server.ask(&get("/file")).body, b"file");
        assert_eq!(server.stop().number(" files got shorter"), 1);
    });
}

#[test]
fn a_file_that_grows_meanwhile_is_sent_as_it_was() {
    Server::each("grows", &[], |server| {
        let mut file = File::create(server.folder.root("log")).expect("a file");
        file.set_len(64 << 20).expect("it takes no room");
        let mut client = begin(&server, "/log");
        file.set_len(65 << 20).expect("it takes no room");
        file.write_all(b"first").expect("room");
        io::copy(&mut (&mut client).take(64 << 20), &mut io::sink()).expect("so many");
        client.get_mut().write_all(b"HEAD /log HTTP/1.1\r\nHost: x\r\n\r\n").expect("room");
        let head = read(&mut client, true);
        assert_eq!((head.status, head.header("content-length")), (200, Some("68157440")));
    });
}

#[test]
fn clients_that_go_away_in_the_middle_leave_nothing() {
    Server::each("gone", &["--timeout", "60"], |server| {
        make_long(&server, "long");
        server.folder.file("file", b"file");
        server.ask(&get("/file"));
        let before = server.descriptors();
        for round in 0..5 {
            let mut clients: Vec<_> = (0..6).map(|_| begin(&server, "/long")).collect();
            for (number, client) in clients.iter_mut().enumerate() {
                client.read_exact(&mut vec![0; 1 + number * 100_000]).expect("there is more");
            }
            let mut silent = server.connect();
            silent.get_mut().write_all(b"GET /lo").expect("room");
            assert!(server.descriptors() > before, "round {round}");
            drop((clients, silent));
            server.await_descriptors(before);
        }
        assert_eq!(server.ask(&get("/file")).body, b"file");
        let report = server.stop();
        assert_eq!(report.number(" clients that did nothing"), 0);
        assert_eq!(report.number(" clients, at most"), 5 * 7 + 2);
    });
}

#[test]
fn who_does_nothing_is_cut_off() {
    Server::each("silent", &["--timeout", "1"], |server| {
        make_long(&server, "long");
        server.folder.file("file", b"file");
        let before = server.descriptors();
        let mut silent = server.connect();
        let mut slow = server.connect();
        let mut deaf = begin(&server, "/long");
        let (mut polite, mut too_late) = (server.connect(), 0);
        let start = Instant::now();
        // One sends a byte now and then, and never a whole head. At last its socket is closed, and
        // so is each other but that of the one who goes on asking.
        wait_until(|| {
            let asked = polite.get_mut().write_all(get("/file").as_bytes());
            if asked.is_err() || polite.fill_buf().is_ok_and(<[u8]>::is_empty) {
                // This machine let a whole second pass.
                (polite, too_late) = (server.connect(), too_late + 1);
                return false;
            }
            assert_eq!(read(&mut polite, false).body, b"file");
            thread::sleep(Duration::from_millis(100));
            slow.get_mut().write_all(b"G").is_err() && server.descriptors() == before + 1
        });
        assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
        drop(polite);
        assert_eq!(silent.read(&mut [0]).expect("it is closed"), 0);
        // What was sent before is still there.
        let got = io::copy(&mut deaf, &mut io::sink());
        assert!(got.map_or(true, |count| count < 64 << 20), "it was not cut off");
        drop(slow);
        assert_eq!(server.stop().number(" clients that did nothing"), 3 + too_late);
    });
}

#[test]
fn who_asks_and_does_not_read_is_not_listened_to() {
    Server::each("deaf", &["--timeout", "60"], |server| {
        server.folder.file("file", &noise(10_000));
        let mut client = server.connect();
        client.get_ref().set_write_timeout(Some(Duration::from_millis(500))).expect("not zero");
        let request = get(&format!("/file?{}", "x".repeat(4000)));
        let (requests, mut sent) = (request.repeat(100), 0);
        while sent < 256 << 20 {
            match client.get_mut().write(&requests.as_bytes()[sent % requests.len()..]) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        assert!(sent < 256 << 20, "it takes requests without end");
        let status = fs::read_to_string(format!("/proc/{}/status", server.served.child.id()));
        let status = status.expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.trim().strip_suffix(" kB")).expect("a number");
        let peak: u64 = peak.parse().expect("a number");
        assert!(peak < 64 << 10, "{peak} KiB");
        // It reads now, and gets the answer of each request that it has sent whole.
        client.get_ref().shutdown(Shutdown::Write).expect("it is there");
        for _ in 0..sent / request.len() {
            assert_eq!(read(&mut client, false).body.len(), 10_000);
        }
        assert_eq!(client.read(&mut [0]).expect("it ends"), 0);
    });
}

/// For threads the limit is their number.
#[test]
fn more_clients_than_there_is_room_for_wait() {
    for limit in [["--clients", "2"], ["--threads", "2"]] {
        let Some(server) = Server::start("room", &limit) else { continue };
        server.folder.file("file", b"file");
        let ask = |client: &mut BufReader<TcpStream>| {
            client.get_mut().write_all(get("/file").as_bytes()).expect("room");
        };
        for _ in 0..10 {
            let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
            for client in &mut clients[..2] {
                ask(client);
                assert_eq!(read(client, false).body, b"file");
            }
            ask(&mut clients[2]);
            clients[2].get_ref().set_read_timeout(Some(Duration::from_millis(20))).expect("not 0");
            assert!(clients[2].fill_buf().is_err(), "it has to wait");
            clients[2].get_ref().set_read_timeout(Some(LIMIT)).expect("not 0");
            clients.remove(0);
            assert_eq!(read(&mut clients[1], false).body, b"file");
            clients.truncate(2);
        }
        let report = server.stop();
        assert_eq!(report.number(" requests with "), 30);
        assert_eq!(report.number(" at once"), 2);
    }
}

/// Not so with threads: each that waits in accept4(2) has reserved a descriptor.
#[test]
fn on_a_ring_it_goes_on_once_there_are_descriptors() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -n 24; exec "$0" "$@""#]).arg(program("httpd"));
    let Some(mut server) = Server::start_by(&mut shell, "descriptors", &[]) else { return };
    server.folder.file("file", b"file");
    let mut clients: Vec<_> = (0..40).map(|_| server.connect()).collect();
    // It has this client, and in the end no descriptor for its file.
    wait_until(|| {
        clients[0].get_mut().write_all(get("/file").as_bytes()).expect("room");
        read(&mut clients[0], false).status == 503
    });
    let mut last = clients.pop().expect("the last one");
    clients.clear();
    // The others, who were there before it, have to be noticed and closed first.
    wait_until(|| {
        last.get_mut().write_all(get("/file").as_bytes()).expect("room");
        read(&mut last, false).body == b"file"
    });
    drop(last);
    server.served.interrupt();
    let (report, stderr) = server.end_with_stderr();
    assert!(report.number(" times") >= 1, "{}", report.0);
    let label = "httpd: cannot accept for now: Too many open files";
    assert!(stderr.starts_with(label) && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn an_answer_that_is_on_its_way_when_it_is_told_to_stop_arrives() {
    Server::each("stop", &["--grace", "60"], |mut server| {
        make_long(&server, "long");
        let mut idle = server.connect();
        let mut half = server.connect();
        half.get_mut().write_all(b"GET /lo").expect("room");
        let mut client = begin(&server, "/long");
        server.served.interrupt();
        assert_eq!(idle.read(&mut [0]).expect("it is closed"), 0);
        // What was not read before the close resets the connection.
        let closed = half.read(&mut [0]);
        let is_reset = |error: &io::Error| error.kind() == ErrorKind::ConnectionReset;
        assert!(closed.as_ref().map_or_else(is_reset, |&count| count == 0), "{closed:?}");
        wait_until(|| TcpStream::connect(server.served.address).is_err());
        assert!(server.served.child.try_wait().expect("ours").is_none(), "one client is there");
        let count = io::copy(&mut client, &mut io::sink()).expect("it ends in order");
        assert_eq!(count, 64 << 20);
        assert_eq!(server.end().number(" requests with "), 1);
    });
}

#[test]
fn who_reads_nothing_cannot_keep_it_from_stopping() {
    Server::each("stop-deaf", &["--timeout", "60"], |mut server| {
        make_long(&server, "long");
        let _deaf = [begin(&server, "/long"), begin(&server, "/long")];
        let start = Instant::now();
        server.served.interrupt();
        server.end();
        // The grace, or a second signal.
        assert!(start.elapsed() > Duration::from_millis(1500), "{:?}", start.elapsed());
    });
    Server::each("stop-twice", &["--timeout", "60"], |mut server| {
        make_long(&server, "long");
        let mut idle = server.connect();
        let _deaf = begin(&server, "/long");
        server.served.interrupt();
        assert_eq!(idle.read(&mut [0]).expect("the first signal has come"), 0);
        server.served.interrupt();
        server.end();
    });
}

/// Many clients, of which each has an operation in flight. An enter is for all that is ready.
#[test]
fn on_a_ring_requests_that_come_together_share_enters() {
    let Some(server) = Server::start("shared", &[]) else { return };
    server.folder.file("file", b"file");
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for _ in 0..20 {
        for client in &mut clients {
            client.get_mut().write_all(get("/file").as_bytes()).expect("room");
        }
        for client in &mut clients {
            assert_eq!(read(client, false).body, b"file");
        }
    }
    drop(clients);
    let report = server.stop();
    assert_eq!(report.number(" requests with "), 2000);
    // Each is five operations: receive, open, statx, read, send; and a close.
    assert!(report.number(" SQEs") >= 6 * 2000, "{}", report.0);
    assert!(report.number(" enters,") < report.number(" SQEs") / 2, "{}", report.0);
    assert!(report.0.lines().all(|line| line.len() <= 80), "{}", report.0);
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    complains("httpd", &[(&["/no/such"], 1, "httpd: cannot serve /no/such: No such file")]);
}
