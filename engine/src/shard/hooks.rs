//! The state machines' hooks, called so that a driver can see how long they take. Here nobody looks
//! at a clock, and nothing depends on who watches.

use super::Shard;

/// A hook of [`StateMachine`](crate::StateMachine) that may take time and is called seldom. What
/// else it has is called where state machines apply, or when a snapshot is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// [`leader_start`](crate::StateMachine::leader_start).
    LeaderStart,
    /// [`leader_stop`](crate::StateMachine::leader_stop).
    LeaderStop,
    /// [`follow_start`](crate::StateMachine::follow_start).
    FollowStart,
    /// [`follow_stop`](crate::StateMachine::follow_stop).
    FollowStop,
    /// [`snapshot`](crate::StateMachine::snapshot).
    Snapshot,
}

impl Hook {
    /// All hooks, in order.
    pub const ALL: [Self; 5] =
        [Self::LeaderStart, Self::LeaderStop, Self::FollowStart, Self::FollowStop, Self::Snapshot];

    /// What it is called in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaderStart => "leader_start",
            Self::LeaderStop => "leader_stop",
            Self::FollowStart => "follow_start",
            Self::FollowStop => "follow_stop",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Is told of each call of a hook.
pub trait HookWatch {
    /// It is about to be called.
    fn begins(&self, hook: Hook);

    /// It returned.
    fn ended(&self, hook: Hook);
}

/// Calls hooks.
#[derive(Default)]
pub(super) struct Hooks(Option<Box<dyn HookWatch>>);

impl Hooks {
    pub(super) fn call<T>(&self, hook: Hook, run: impl FnOnce() -> T) -> T {
        let Some(watch) = &self.0 else { return run() };
        watch.begins(hook);
        let result = run();
        watch.ended(hook);
        result
    }
}

impl Shard {
    /// Has the calls of hooks watched from now on.
    pub fn watch_hooks(&mut self, watch: Box<dyn HookWatch>) {
        self.hooks = Hooks(Some(watch));
    }
}
