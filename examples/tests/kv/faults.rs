//! Nodes are killed and stopped while clients work.

use std::thread;
use std::time::Duration;

use crate::nodes::Nodes;
use crate::workload::check_while;

fn signal(pid: u32, signal: i32) {
    // SAFETY: the child was not waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
}

#[test]
fn nobody_sees_what_one_copy_could_not_have_shown() {
    let mut nodes = Nodes::three();
    check_while(nodes.all_plain(), nodes.all_cluster(), |random| {
        for round in 0..6 {
            thread::sleep(Duration::from_millis(1_000));
            let node = random.below(3) as usize;
            if round % 2 == 0 {
                nodes.kill(node);
                thread::sleep(Duration::from_millis(500));
                nodes.start(node);
            } else {
                signal(nodes.pid(node), libc::SIGSTOP);
                thread::sleep(Duration::from_millis(1_500));
                signal(nodes.pid(node), libc::SIGCONT);
            }
        }
        nodes.wait_until_served();
    });
}
