package peers.common;

import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A node's command line, as bench/peers/README.md has it. */
public final class Arguments {
    private static final int MIN_PAYLOAD = Long.BYTES;
    /** Payloads in flight take no more memory than this, whatever the number of operations. */
    private static final long MAX_BYTES_IN_FLIGHT = 256L << 20;

    /** From 1. */
    public final int id;
    public final List<InetSocketAddress> addresses;
    public final Path dataDir;
    public final int payload;
    /** Of all groups together, already cut to what memory allows. */
    public final int inflight;
    public final int groups;
    /** Operations per second of all groups together; 0 is a closed loop. */
    public final double rate;
    private final Map<String, String> options = new HashMap<>();

    public Arguments(String[] words) {
        Map<String, String> values = new HashMap<>();
        for (int i = 0; i < words.length; i += 2) {
            if (!words[i].startsWith("--") || i + 1 == words.length) {
                throw new UsageException("not an argument with a value: " + words[i]);
            }
            String name = words[i].substring(2);
            String value = words[i + 1];
            if (name.equals("option")) {
                String[] option = value.split("=", 2);
                if (option.length != 2) {
                    throw new UsageException("--option wants NAME=VALUE: " + value);
                }
                options.put(option[0], option[1]);
            } else {
                values.put(name, value);
            }
        }
        id = (int) number(values, "id", 1);
        addresses = addresses(required(values, "addresses"));
        dataDir = Path.of(required(values, "data-dir")).toAbsolutePath();
        payload = (int) number(values, "payload", MIN_PAYLOAD);
        inflight = (int) Math.min(number(values, "inflight", 1), Math.max(1, MAX_BYTES_IN_FLIGHT / payload));
        groups = (int) number(values, "groups", 1);
        String rateText = values.remove("rate");
        rate = rateText == null ? 0 : positive("rate", rateText);
        if (id > addresses.size()) {
            throw new UsageException("--id " + id + " of only " + addresses.size() + " addresses");
        }
        if (!values.isEmpty()) {
            throw new UsageException("unknown arguments: " + values.keySet());
        }
    }

    public InetSocketAddress ownAddress() {
        return addresses.get(id - 1);
    }

    public String option(String name, String otherwise) {
        return options.getOrDefault(name, otherwise);
    }

    public void allowOptions(Set<String> known) {
        for (String name : options.keySet()) {
            if (!known.contains(name)) {
                throw new UsageException("unknown option " + name + "; known are " + known);
            }
        }
    }

    private static String required(Map<String, String> values, String name) {
        String value = values.remove(name);
        if (value == null) {
            throw new UsageException("--" + name + " is missing");
        }
        return value;
    }

    private static long number(Map<String, String> values, String name, long least) {
        String value = required(values, name);
        try {
            long number = Long.parseLong(value);
            if (number >= least && number <= Integer.MAX_VALUE) {
                return number;
            }
        } catch (NumberFormatException e) {
            // Said below.
        }
        throw new UsageException("--" + name + " wants a number from " + least + ": " + value);
    }

    private static double positive(String name, String value) {
        try {
            double number = Double.parseDouble(value);
            if (number > 0) {
                return number;
            }
        } catch (NumberFormatException e) {
            // Said below.
        }
        throw new UsageException("--" + name + " wants a positive number: " + value);
    }

    private static List<InetSocketAddress> addresses(String text) {
        List<InetSocketAddress> addresses = new ArrayList<>();
        for (String address : text.split(",")) {
            int colon = address.lastIndexOf(':');
            if (colon < 1) {
                throw new UsageException("not HOST:PORT: " + address);
            }
            int port = (int) positive("addresses", address.substring(colon + 1));
            addresses.add(new InetSocketAddress(address.substring(0, colon), port));
        }
        return addresses;
    }
}
