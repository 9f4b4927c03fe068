//! Bodies far larger than any memory that a sidecar may take for them.

use std::time::Duration;

use tests::app::App;
use tests::pod::Pod;
use tests::process::Process;
use tests::talk::Talk;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::shop::Shop;

const SIZE: u64 = 1024 * 1024 * 1024;

/// Most memory that a sidecar may ever have had in use, its program's pages included.
const MOST_KIB: u64 = 32 * 1024;

const PIECE: usize = 256 * 1024;

static ZEROS: [u8; PIECE] = [0; PIECE];

/// Reads [`SIZE`] bytes and says whether all of them were there, and zero.
async fn read_zeros(io: &mut (impl AsyncRead + Unpin)) -> bool {
    let (mut left, mut zero, mut piece) = (SIZE, true, vec![0; PIECE]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let read = io.read(&mut piece[..most]).await.unwrap_or(0);
        if read == 0 {
            return false;
        }
        zero &= piece[..read] == ZEROS[..read];
        left -= read as u64;
    }
    zero
}

async fn write_zeros(io: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    for _ in 0..SIZE / PIECE as u64 {
        io.write_all(&ZEROS).await?;
    }
    Ok(())
}

/// How long the one who reads does not begin: what the other sends meanwhile must wait there.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes [`SIZE`] bytes of a PUT and says how it found them; answers a GET with as many.
async fn serve(socket: TcpStream) {
    let mut talk = Talk::on(socket);
    let Ok(head) = talk.head().await else { return };
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
    if head.starts_with("GET") {
        let _ = talk.say(answer).await;
        let _ = write_zeros(talk.io()).await;
    } else {
        sleep(PAUSE).await;
        let whole = read_zeros(talk.io()).await;
        let _ = talk.say(format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{whole:5}")).await;
    }
}

/// The most memory that a process ever had in use, in KiB.
fn peak(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn assert_small(pods: [&Pod; 2], when: &str) {
    for pod in pods {
        let peak = peak(&pod.sidecar());
        eprintln!("the sidecar of {}: at most {peak} KiB {when}", pod.name());
        assert!(peak < MOST_KIB, "the sidecar of {}: {peak} KiB {when}", pod.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_goes_up_and_one_comes_down_in_little_memory() {
    let shop = Shop::with("", App::scripted(serve)).await;
    let pods = [&shop.web, &shop.api];
    assert_small(pods, "before");

    let mut up = Talk::to(shop.web.proxy()).await.unwrap();
    up.say(format!("PUT / HTTP/1.1\r\nhost: api.shop\r\ncontent-length: {SIZE}\r\n\r\n"))
        .await
        .unwrap();
    write_zeros(up.io()).await.unwrap();
    let head = up.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(up.exactly(5).await.unwrap(), b"true ");
    assert_small(pods, "after a gibibyte up");

    let mut down = Talk::to(shop.web.proxy()).await.unwrap();
    down.say("GET / HTTP/1.1\r\nhost: api.shop\r\n\r\n").await.unwrap();
    let head = down.head().await.unwrap();
    assert!(head.contains(&format!("content-length: {SIZE}\n")), "{head}");
    sleep(PAUSE).await;
    assert!(read_zeros(down.io()).await);
    assert_small(pods, "after a gibibyte down");
}
