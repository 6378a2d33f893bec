package peers.sofajraft;

import peers.common.Node;

public final class Main {
    private Main() {}

    public static void main(String[] words) {
        Node.main(words, JraftEngine::new);
    }
}
