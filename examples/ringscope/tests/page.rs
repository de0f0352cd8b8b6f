//! The page in a browser: its slider moves, and its state can be read.
//!
//! Needs Chromium (Debian: `chromium`); without it the tests say so, and end.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{folder, printed};

/// How long the browser may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What the browser makes of an address; `None` if there is no browser.
fn browse(folder: &Path, address: &str) -> Option<String> {
    let dump = folder.join("dump.html");
    let start = |name: &&str| {
        Command::new(name)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(address)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&dump).expect("a file"))
            .stderr(Stdio::null())
            .spawn()
            .ok()
    };
    let Some(mut browser) = ["chromium", "chromium-browser"].iter().find_map(start) else {
        println!("skipped: there is no chromium");
        return None;
    };
    let began = Instant::now();
    while browser.try_wait().expect("a child").is_none() {
        if began.elapsed() > LIMIT {
            let _ = browser.kill();
            let _ = browser.wait();
            panic!("the browser took more than {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let dom = fs::read_to_string(dump).expect("text");
    if dom.is_empty() {
        println!("skipped: chromium does not run here");
        return None;
    }
    Some(dom)
}

/// The opening tag of `<main>`: its attributes are the state.
fn state(dom: &str) -> &str {
    let from = dom.find("<main").expect("a main");
    &dom[from..from + dom[from..].find('>').expect("its end")]
}

/// The opening tag of the section of the same frame.
fn section<'a>(dom: &'a str, frame: &str) -> &'a str {
    let from = dom.find(&format!("<section id=\"frame-{frame}\"")).expect("a section");
    &dom[from..from + dom[from..].find('>').expect("its end")]
}

#[test]
fn a_fragment_picks_the_frame() {
    let folder = folder("fragment");
    let page = folder.join("demo.html");
    fs::write(&page, printed(&["html", "demo"])).expect("written");
    let address = format!("file://{}#frame=5", page.display());
    let Some(dom) = browse(&folder, &address) else { return };
    let expected = "data-frame=\"5\" data-sq-head=\"3\" data-sq-tail=\"3\" data-sq-written=\"5\" \
                    data-cq-head=\"0\" data-cq-tail=\"2\" data-enters=\"1\" data-held=\"0\" \
                    data-requests=\"A:kernel B:CQ C:CQ D:ours E:ours\"";
    assert!(state(&dom).contains(expected), "{}", state(&dom));
    assert!(section(&dom, "5").contains("class=\"now\""));
    assert!(!section(&dom, "4").contains("class=\"now\""));
}

#[test]
fn the_slider_and_the_buttons_move_from_frame_to_frame() {
    let folder = folder("slider");
    let page = folder.join("demo.html");
    // A script of ours plays the reader, and leaves what it read in the page.
    let reader = "<script>
        const read = [];
        const note = () => read.push(document.querySelector('main').dataset.frame + ':' +
            document.querySelector('main').dataset.cqTail + ':' +
            document.querySelectorAll('section.now').length);
        note();
        const input = document.querySelector('input');
        for (let at = 2; at <= 9; at++) {
            input.value = at;
            input.dispatchEvent(new Event('input'));
            note();
        }
        document.querySelector('#on').click(); note();
        document.querySelector('#back').click(); note();
        dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' })); note();
        document.body.dataset.read = read.join(' ');
    </script></body>";
    let text = printed(&["html", "demo"]).replace("</body>", reader);
    fs::write(&page, text).expect("written");
    let Some(dom) = browse(&folder, &format!("file://{}", page.display())) else { return };
    let expected = "data-read=\"1:0:1 2:0:1 3:1:1 4:1:1 5:2:1 6:2:1 7:4:1 8:5:1 9:5:1 \
                    9:5:1 8:5:1 7:4:1\"";
    assert!(dom.contains(expected), "{}", &dom[dom.find("<body").expect("a body")..][..300]);
}
