package peers.common;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;

/** One node's process: follows the commands on standard input until that ends. */
public final class Node {
    private static final int EXIT_USAGE = 2;
    private static final long DRAIN_NS = 20_000_000_000L;
    private static final double NS_PER_SECOND = 1e9;

    private final Engine engine;
    private final List<Group> groups;
    private final PrintStream answers;
    private long measuredFrom;

    private Node(Engine engine, List<Group> groups, PrintStream answers) {
        this.engine = engine;
        this.groups = groups;
        this.answers = answers;
    }

    /** Never returns: ends the process. */
    public static void main(String[] words, Function<Arguments, Engine> binding) {
        // Libraries that print to System.out must not reach whoever reads the answers.
        PrintStream answers = System.out;
        System.setOut(System.err);
        try {
            Arguments arguments = new Arguments(words);
            Engine engine = binding.apply(arguments);
            List<Group> groups = new ArrayList<>();
            for (int number = 1; number <= arguments.groups; number++) {
                groups.add(new Group(number, arguments, engine));
            }
            engine.open(groups);
            if (!engine.pumps()) {
                new Pacer(groups).start();
            }
            new Node(engine, groups, answers).follow();
            engine.close();
        } catch (UsageException e) {
            System.err.println(e.getMessage());
            exit(EXIT_USAGE);
        } catch (Throwable e) {
            die("the node can't go on", e);
        }
        exit(0);
    }

    /** For an engine's own threads as well. */
    public static void die(String why, Throwable cause) {
        System.err.println(why + (cause == null ? "" : ": " + cause));
        if (cause != null) {
            cause.printStackTrace();
        }
        exit(1);
    }

    /** Without the hooks of libraries: all that has to be closed is closed before. */
    private static void exit(int code) {
        System.err.flush();
        Runtime.getRuntime().halt(code);
    }

    private void follow() throws IOException, InterruptedException {
        answer(Answers.ready(engine));
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            switch (line.strip()) {
                case "roles":
                    answer(Answers.roles(engine, groups));
                    break;
                case "load":
                    for (Group group : groups) {
                        group.proposer.load();
                    }
                    break;
                case "measure":
                    measuredFrom = System.nanoTime();
                    for (Group group : groups) {
                        group.proposer.measure();
                    }
                    break;
                case "end":
                    answer(end());
                    break;
                case "applied":
                    answer(Answers.applied(groups));
                    break;
                default:
                    throw new IOException("unknown command: " + line);
            }
        }
    }

    private String end() throws InterruptedException {
        for (Group group : groups) {
            group.proposer.stopCounting();
        }
        long endedAt = System.nanoTime();
        while (System.nanoTime() - endedAt < DRAIN_NS && !groups.stream().allMatch(g -> g.proposer.isIdle())) {
            Thread.sleep(1);
        }
        Proposer.Totals totals = new Proposer.Totals();
        for (Group group : groups) {
            group.proposer.addTo(totals);
        }
        return Answers.measured((endedAt - measuredFrom) / NS_PER_SECOND, totals);
    }

    private void answer(String line) {
        answers.println(line);
        answers.flush();
    }
}
