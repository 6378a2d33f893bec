package peers.common;

/** A group's part in this process: its replica of the state, and who proposes to it while it leads. */
public final class Group {
    /** From 1. */
    public final int number;
    public final StateMachine machine = new StateMachine();
    public final Proposer proposer;

    Group(int number, Arguments arguments, Engine engine) {
        this.number = number;
        int share = arguments.inflight / arguments.groups + (number <= arguments.inflight % arguments.groups ? 1 : 0);
        proposer = new Proposer(this, engine, share, arguments.rate / arguments.groups);
    }
}
