//! What is answered: files, parts of files, refusals.

use super::*;

#[test]
fn files_of_all_lengths_arrive_as_they_are_over_one_connection() {
    Server::each("files", &[], |server| {
        let mut client = server.connect();
        // The head and the file go through pieces of 64 KiB.
        for len in [0, 1, 65_000, 65_535, 65_536, 65_537, 200_000, 5_000_000] {
            let bytes = noise(len);
            server.folder.file("file", &bytes);
            client.get_mut().write_all(get("/file").as_bytes()).expect("room");
            let answer = read(&mut client, false);
            assert_eq!((answer.status, answer.header("connection")), (200, None));
            assert!(answer.body == bytes, "{len} bytes");
            client.get_mut().write_all(b"HEAD /file HTTP/1.1\r\nHost: here\r\n\r\n").expect("room");
            let head = read(&mut client, true);
            assert_eq!((head.status, head.headers), (200, answer.headers));
        }
        drop(client);
        let report = server.stop();
        assert_eq!(report.number(" requests with "), 16);
        assert_eq!(report.number(" clients, at most 1 at once"), 1);
    });
}

#[test]
fn a_hundred_requests_at_once_are_answered_in_their_order() {
    Server::each("pipelined", &[], |server| {
        for number in 0..10 {
            server
                .folder
                .file(&format!("{number}"), format!("{number} ").repeat(20_000).as_bytes());
        }
        let client = server.connect();
        let mut writer = client.get_ref().try_clone().expect("a descriptor");
        let mut client = client;
        // A head and a half, and so on: no piece ends where a request does.
        let all: String = (0..100).map(|number| get(&format!("/{}", number * 7 % 10))).collect();
        let asking = thread::spawn(move || {
            all.as_bytes().chunks(67).try_for_each(|piece| writer.write_all(piece))
        });
        for number in 0..100 {
            let answer = read(&mut client, false);
            assert_eq!(answer.status, 200);
            assert!(answer.body.starts_with(format!("{} ", number * 7 % 10).as_bytes()));
            assert_eq!(answer.body.len(), 40_000);
        }
        asking.join().expect("no panic").expect("room");
    });
}

#[test]
fn a_request_that_comes_byte_by_byte_is_one() {
    Server::each("bytes", &[], |server| {
        server.folder.file("a b", b"found");
        let mut client = server.connect();
        client.get_ref().set_nodelay(true).expect("a socket");
        for byte in get("/%61%20b?c=d").into_bytes() {
            client.get_mut().write_all(&[byte]).expect("room");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(read(&mut client, false).body, b"found");
    });
}

#[test]
fn no_path_leads_out_of_the_root() {
    Server::each("escapes", &[], |server| {
        let folder = &server.folder;
        fs::write(folder.0.join("secret"), "a secret").expect("room");
        folder.file("inside", b"inside");
        let link = |to: &Path, name: &str| symlink(to, folder.root(name)).expect("room");
        link(&folder.0.join("secret"), "absolute");
        link(Path::new("../secret"), "relative");
        link(Path::new("../.."), "sub/up");
        link(Path::new("/proc/self/root"), "magic");
        link(Path::new("sub/../inside"), "good");
        link(Path::new("loop"), "loop");
        let secret = folder.0.join("secret");
        let secret = secret.to_str().expect("text");
        let cases = [
            ("/../secret", 403),
            ("/%2e%2e/secret", 403),
            ("/..%2fsecret", 403),
            ("/sub/../../secret", 403),
            ("/./sub/.././../secret", 403),
            ("/absolute", 403),
            ("/relative", 403),
            ("/sub/up/secret", 403),
            ("/magic/etc/passwd", 403),
            ("/loop", 403),
            ("/..", 403),
            ("/..\\secret", 404),
            ("/%252e%252e/secret", 404),
            (&format!("/{secret}"), 404),
            (&format!("//{secret}"), 404),
            ("/secret", 404),
            ("/sub/../inside", 200),
            ("//inside", 200),
            ("http://elsewhere/inside", 200),
            ("/good", 200),
        ];
        for (path, status) in cases {
            let answer = server.ask(&get(path));
            assert_eq!(answer.status, status, "{path}");
            let body = String::from_utf8(answer.body).expect("text");
            assert!(!body.contains("a secret") && (body == "inside") == (status == 200), "{path}");
        }
    });
}

#[test]
fn what_is_no_file_is_refused_and_holds_up_nobody() {
    Server::each("special", &[], |server| {
        let folder = &server.folder;
        let fifo = folder.root("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo starts").success());
        let _listener = UnixListener::bind(folder.root("socket")).expect("a socket");
        folder.file("file", b"file");
        folder.file("private", b"private");
        let nothing = fs::Permissions::from_mode(0o000);
        fs::set_permissions(folder.root("private"), nothing).expect("it is ours");
        // The first walk through a link notes the time, unless that is the time of the link. So a
        // ring leaves the open to a worker thread, which waits for a FIFO if it is not told not to.
        for round in 0..20 {
            symlink("fifo", folder.root(&format!("link{round}"))).expect("room");
        }
        thread::sleep(Duration::from_millis(50));
        let mut client = server.connect();
        for round in 0..20 {
            let link = format!("/link{round}");
            let cases = [(&*link, 403), ("/fifo", 403), ("/socket", 403), ("/file", 200)];
            for (path, status) in cases {
                client.get_mut().write_all(get(path).as_bytes()).expect("room");
                assert_eq!(read(&mut client, false).status, status, "{path}");
            }
        }
        client.get_mut().write_all(get("/private").as_bytes()).expect("room");
        let is_root = fs::read(folder.root("private")).is_ok();
        assert_eq!(read(&mut client, false).status, if is_root { 200 } else { 403 });
    });
}

#[test]
fn a_directory_is_its_index() {
    Server::each("index", &[], |server| {
        server.folder.file("index.html", b"root");
        server.folder.file("sub/index.html", b"sub");
        fs::create_dir_all(server.folder.root("empty\r\nX: y")).expect("room");
        fs::create_dir_all(server.folder.root("odd/index.html")).expect("room");
        let cases = [("/", "root"), ("/sub/", "sub"), ("/?sub/", "root"), ("/sub/.", "")];
        for (path, body) in cases {
            let answer = server.ask(&get(path));
            if !body.is_empty() {
                assert_eq!(
                    (answer.status, answer.header("content-type")),
                    (200, Some("text/html"))
                );
                assert_eq!(answer.body, body.as_bytes());
            }
        }
        let moved = |path: &str| {
            let answer = server.ask(&get(path));
            (answer.status, answer.header("location").map(str::to_owned))
        };
        assert_eq!(moved("/sub"), (301, Some("/sub/".into())));
        // Another host, and another header.
        assert_eq!(moved("//sub"), (301, Some("/sub/".into())));
        let encoded = "/empty%0D%0AX%3A%20y";
        assert_eq!(moved(encoded), (301, Some(format!("{encoded}/"))));
        assert_eq!(moved(&format!("{encoded}/")), (404, None));
        assert_eq!(moved("/odd/"), (403, None));
    });
}

#[test]
fn a_range_is_a_part_of_the_file() {
    Server::each("ranges", &[], |server| {
        let bytes = noise(200_000);
        server.folder.file("file", &bytes);
        server.folder.file("empty", b"");
        let part = |range: &str| {
            server.ask(&format!("GET /file HTTP/1.1\r\nHost: x\r\nRange: {range}\r\n\r\n"))
        };
        let parts = [
            ("bytes=0-0", 0, 0),
            ("bytes=10-99999", 10, 99_999),
            ("bytes=199999-", 199_999, 199_999),
            ("bytes=7-999999999", 7, 199_999),
            ("bytes=-5", 199_995, 199_999),
            ("bytes=-300000", 0, 199_999),
        ];
        for (range, first, last) in parts {
            let answer = part(range);
            assert_eq!(answer.status, 206, "{range}");
            let expected = format!("bytes {first}-{last}/200000");
            assert_eq!(answer.header("content-range"), Some(&*expected));
            assert!(answer.body == bytes[first..=last], "{range}");
        }
        for range in ["bytes=200000-", "bytes=-0", "bytes=200000-300000"] {
            let answer = part(range);
            assert_eq!(
                (answer.status, answer.header("content-range")),
                (416, Some("bytes */200000"))
            );
        }
        let ignored =
            ["bytes=5-4", "bytes=0-1,4-5", "bytes=+1-2", "bytes=a-b", "lines=1-2", "bytes=-"];
        for range in ignored.iter().chain(&["bytes=0-0\r\nIf-Range: \"x\""]) {
            let answer = part(range);
            assert_eq!((answer.status, answer.header("content-range")), (200, None), "{range}");
            assert!(answer.body == bytes);
        }
        let empty = server.ask("GET /empty HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\n\r\n");
        assert_eq!(empty.status, 416);
    });
}

#[test]
fn what_is_no_request_is_refused_and_ends_the_connection() {
    Server::each("wrong", &[], |server| {
        server.folder.file("file", b"file");
        let many: String = (0..65).map(|number| format!("A{number}: b\r\n")).collect();
        let cases = [
            ("nonsense\r\n\r\n".into(), 400),
            ("\0\u{1}\u{2}".into(), 400),
            ("GET file HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
            ("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
            ("GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
            ("GET /file HTTP/1.1\r\n\r\n".into(), 400),
            ("GET /file HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), 400),
            ("GET /file HTTP/1.1\r\nHost: x\r\nA\r\n\r\n".into(), 400),
            ("GET /file HTTP/2.0\r\nHost: x\r\n\r\n".into(), 505),
            ("POST /file HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".into(), 405),
            ("GET /file HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".into(), 413),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
                413,
            ),
            (format!("GET /file HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431),
            (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000)), 431),
            (format!("GET /{}", "a".repeat(500_000)), 431),
        ];
        for (request, status) in cases {
            let mut client = server.connect();
            let mut writer = client.get_ref().try_clone().expect("a descriptor");
            let (whole, start) =
                (request.clone() + &get("/file"), &request[..request.len().min(60)]);
            // It may be answered before all of it is sent.
            let asking = thread::spawn(move || writer.write_all(whole.as_bytes()).is_ok());
            let answer = read(&mut client, false);
            assert_eq!(
                (answer.status, answer.header("connection")),
                (status, Some("close")),
                "{start}"
            );
            assert_eq!(answer.header("allow").is_some(), status == 405);
            // What follows is not taken for a request.
            assert_eq!(client.read_to_end(&mut Vec::new()).expect("no reset"), 0, "{start}");
            drop(client);
            asking.join().expect("no panic");
        }
        assert_eq!(server.ask(&get("/file")).body, b"file");
    });
}

#[test]
fn who_wants_to_end_the_connection_or_is_old_is_understood() {
    Server::each("old", &[], |server| {
        server.folder.file("file", b"file");
        let cases = [
            ("HTTP/1.1\r\nHost: x\r\n", true, None),
            ("HTTP/1.1\r\nHost: x\r\nConnection: a, Close\r\n", false, Some("close")),
            ("HTTP/1.0\r\n", false, Some("close")),
            ("HTTP/1.0\r\nConnection: keep-alive\r\n", true, Some("keep-alive")),
        ];
        for (rest, keep, connection) in cases {
            let mut client = server.connect();
            let request = format!("GET /file {rest}\r\n");
            client.get_mut().write_all(request.repeat(2).as_bytes()).expect("room");
            let answer = read(&mut client, false);
            assert_eq!((answer.header("connection"), &*answer.body), (connection, &b"file"[..]));
            client.get_ref().shutdown(Shutdown::Write).expect("it is there");
            let mut more = Vec::new();
            client.read_to_end(&mut more).expect("it ends");
            assert_eq!(more.is_empty(), !keep, "{rest}");
        }
    });
}

#[test]
fn curl_gets_the_same() {
    if !has_curl() {
        return;
    }
    Server::each("curl", &[], |server| {
        let bytes = noise(3_000_000);
        server.folder.file("big", &bytes);
        server.folder.file("sub/index.html", b"sub");
        let url = |path: &str| format!("http://{}{path}", server.served.address);
        let curl = |arguments: &[&str]| {
            let output =
                Command::new("curl").args(["-s", "-S", "-m", "60"]).args(arguments).output();
            let output = output.expect("it starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        assert!(curl(&[&url("/big")]) == bytes);
        assert!(curl(&["-r", "1000-2000999", &url("/big")]) == bytes[1000..2_001_000]);
        // One after the other over one connection, as it says.
        let twice = curl(&[
            "-w",
            "%{num_connects}",
            "-o",
            "/dev/null",
            &url("/big"),
            &url("/big"),
            "-o",
            "/dev/null",
        ]);
        assert_eq!(twice, b"10");
        assert_eq!(curl(&["-L", &url("/sub")]), b"sub");
        let head = String::from_utf8(curl(&["-I", &url("/big")])).expect("text");
        assert!(head.contains("Content-Length: 3000000\r\n"), "{head}");
    });
}
