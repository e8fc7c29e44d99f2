//! Bodies that are collected, trickle or are dropped.

use super::*;

#[test]
fn a_body_is_collected_up_to_its_cap_and_its_time() {
    on_a_worker(async {
        let served = Served::start(|_| {});
        let chunked = "transfer-encoding: chunked\r\n\r\n";
        for (sent, status, body) in [
            ("content-length: 8\r\n\r\n12345678".to_owned(), 200, "12345678"),
            ("content-length: 0\r\n\r\n".to_owned(), 200, ""),
            (format!("{chunked}3\r\n123\r\n4\r\n4567\r\n0\r\nx-auth-user: admin\r\n\r\n"), 200, "1234567"),
            ("content-length: 9\r\n\r\n123456789".to_owned(), 413, "BodyTooLarge { limit: 8 }"),
            (format!("{chunked}5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n"), 413, "BodyTooLarge { limit: 8 }"),
            (format!("content-length: {}\r\n\r\n", 2 << 20), 413, "BodyTooLarge { limit: 1048576 }"),
            ("content-length: 8\r\n\r\n1234".to_owned(), 408, "BodyTimeout { seconds: 0 }"),
            (format!("{chunked}zz\r\n"), 400, "BodyBroken"),
        ] {
            let mut client = Wire::connect(served.address).await;
            client.write(format!("POST /collect HTTP/1.1\r\nhost: a\r\n{sent}")).await;
            let (head, found) = client.read_answer().await;
            assert_eq!((head.get(9..12).unwrap(), found.as_str()), (status.to_string().as_str(), body), "{sent:?}");
        }
    });
}

#[test]
fn a_trickle_does_not_prolong_the_time_of_a_collected_body() {
    on_a_worker(async {
        let served = Served::start(|_| {});
        let mut client = Wire::connect(served.address).await;
        client.write("POST /collect HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n").await;
        let (stop, mut stopped) = oneshot::channel::<()>();
        let (mut read, mut write) = client.socket.into_split();
        let trickle = spawn_local(async move {
            let mut sent = 0;
            while sent < 7 && stopped.try_recv().is_err() {
                tokio::io::AsyncWriteExt::write_all(&mut write, b"x").await.unwrap();
                sent += 1;
                // waits for: part of the timeout that each byte starts anew.
                sleep(SHORT / 3).await;
            }
            write
        });
        let mut status = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut read, &mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 408");
        let _ = stop.send(());
        trickle.await.unwrap();
    });
}

#[test]
fn a_body_that_is_dropped_early_is_told_as_cut() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = |list: &Rc<RefCell<Vec<Done>>>| {
        let list = list.clone();
        move |done| list.borrow_mut().push(done)
    };
    drop(Body::full("abc").when_done(note(&seen)));
    drop(Body::empty().when_done(note(&seen)));
    assert_eq!(Body::full("abc").size_hint().exact(), Some(3));
    assert_eq!(*seen.borrow(), [Done { bytes: 0, ending: Ending::Cut }, Done { bytes: 0, ending: Ending::Whole }]);
}
