package peers.common;

import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import org.HdrHistogram.HistogramIterationValue;

/** The JSON lines that a node writes to standard output. */
final class Answers {
    private Answers() {}

    static String ready(Engine engine) {
        StringJoiner settings = new StringJoiner(", ", "{", "}");
        for (Map.Entry<String, String> setting : engine.settings().entrySet()) {
            settings.add(quote(setting.getKey()) + ": " + quote(setting.getValue()));
        }
        return "{\"ready\": {\"name\": " + quote(engine.name()) + ", \"version\": " + quote(engine.version())
                + ", \"durable\": " + engine.durable() + ", \"settings\": " + settings + "}}";
    }

    static String roles(Engine engine, List<Group> groups) {
        StringJoiner leads = new StringJoiner(", ", "[", "]");
        int known = 0;
        for (Group group : groups) {
            if (engine.leads(group)) {
                leads.add(Integer.toString(group.number));
            }
            if (engine.knowsLeader(group)) {
                known++;
            }
        }
        return "{\"roles\": {\"leads\": " + leads + ", \"known\": " + known + "}}";
    }

    static String measured(double seconds, Proposer.Totals totals) {
        StringJoiner histogram = new StringJoiner(", ", "[", "]");
        for (HistogramIterationValue value : totals.latencies.recordedValues()) {
            histogram.add("[" + value.getValueIteratedTo() + ", " + value.getCountAtValueIteratedTo() + "]");
        }
        StringJoiner messages = new StringJoiner(", ", "[", "]");
        for (String message : totals.messages) {
            messages.add(quote(message));
        }
        return "{\"measured\": {\"seconds\": " + seconds + ", \"ops\": " + totals.latencies.getTotalCount()
                + ", \"errors\": " + totals.errors + ", \"unknown\": " + totals.unknown + ", \"busy\": " + totals.busy
                + ", \"histogram\": " + histogram + ", \"max_ns\": " + totals.latencies.getMaxValue()
                + ", \"proposed\": " + totals.proposed + ", \"acknowledged\": " + totals.acknowledged
                + ", \"messages\": " + messages + "}}";
    }

    static String applied(List<Group> groups) {
        long count = 0;
        long hash = 0;
        for (Group group : groups) {
            count += group.machine.publishedCount();
            hash ^= Long.rotateLeft(group.machine.publishedHash(), group.number % Long.SIZE);
        }
        return "{\"applied\": {\"count\": " + count + ", \"hash\": \"" + String.format("%016x", hash) + "\"}}";
    }

    private static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < ' ') {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }
}
