package peers.sofajraft;

import com.alipay.sofa.jraft.JRaftUtils;
import com.alipay.sofa.jraft.RaftGroupService;
import com.alipay.sofa.jraft.conf.Configuration;
import com.alipay.sofa.jraft.core.ElectionPriority;
import com.alipay.sofa.jraft.entity.PeerId;
import com.alipay.sofa.jraft.entity.Task;
import com.alipay.sofa.jraft.option.NodeOptions;
import com.alipay.sofa.jraft.option.RaftOptions;
import com.alipay.sofa.jraft.rpc.RaftRpcServerFactory;
import com.alipay.sofa.jraft.rpc.RpcServer;
import com.alipay.sofa.jraft.rpc.impl.BoltRpcServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import peers.common.Arguments;
import peers.common.Engine;
import peers.common.Group;
import peers.common.Payloads;

/** SOFAJRaft: a node of each group behind one RPC server. */
final class JraftEngine implements Engine {
    private static final int ELECTION_TIMEOUT_MS = 3000;
    private static final int APPLY_BATCH = 1024;
    private static final int MAX_APPEND_BUFFER = 1 << 20;
    private static final int MAX_BODY = 1 << 20;
    /** Heartbeats queue behind what is on its way to a follower, so that is bounded. */
    private static final int PIPELINE_BYTES = 16 << 20;
    private static final int MOST_REQUESTS = 32;
    private static final int DEFAULT_RING = 16384;
    /** Four rings a group are allocated whole, so many groups have smaller ones. */
    private static final int SMALLEST_RING = 1024;
    private static final int PREFERRED = 100;
    private static final int NOT_PREFERRED = 50;
    private static final String POM_PROPERTIES = "/META-INF/maven/com.alipay.sofa/jraft-core/pom.properties";

    private final Arguments arguments;
    private final Payloads payloads;
    private final int ring;
    private final List<RaftGroupService> services = new ArrayList<>();
    private final List<GroupMachine> machines = new ArrayList<>();
    private RpcServer rpcServer;

    JraftEngine(Arguments arguments) {
        this.arguments = arguments;
        payloads = new Payloads(arguments.payload);
        arguments.allowOptions(Set.of());
        // The rings hold what may be in flight: a full one refuses tasks. Power of two.
        int share = Math.max(1, arguments.inflight / arguments.groups);
        int needed = Integer.highestOneBit(share) * 2;
        ring = arguments.groups == 1 ? Math.max(DEFAULT_RING, needed) : Math.max(SMALLEST_RING, needed);
    }

    @Override
    public String name() {
        return "sofajraft";
    }

    @Override
    public String version() {
        Properties properties = new Properties();
        try (InputStream in = RaftGroupService.class.getResourceAsStream(POM_PROPERTIES)) {
            properties.load(in);
        } catch (IOException e) {
            throw new IllegalStateException(POM_PROPERTIES, e);
        }
        return properties.getProperty("version");
    }

    @Override
    public boolean durable() {
        return true;
    }

    @Override
    public Map<String, String> settings() {
        RaftOptions options = raftOptions();
        Map<String, String> settings = new TreeMap<>();
        settings.put("sync", Boolean.toString(options.isSync()));
        settings.put("syncMeta", Boolean.toString(options.isSyncMeta()));
        settings.put("applyBatch", Integer.toString(options.getApplyBatch()));
        settings.put("disruptorBufferSize", Integer.toString(options.getDisruptorBufferSize()));
        settings.put("maxEntriesSize", Integer.toString(options.getMaxEntriesSize()));
        settings.put("maxBodySize", Integer.toString(options.getMaxBodySize()));
        settings.put("maxAppendBufferSize", Integer.toString(options.getMaxAppendBufferSize()));
        settings.put("maxReplicatorInflightMsgs", Integer.toString(options.getMaxReplicatorInflightMsgs()));
        settings.put("replicatorPipeline", Boolean.toString(options.isReplicatorPipeline()));
        settings.put("openStatistics", Boolean.toString(options.isOpenStatistics()));
        settings.put("electionTimeoutMs", Integer.toString(ELECTION_TIMEOUT_MS));
        settings.put("snapshots", "off");
        if (arguments.groups > 1) {
            settings.put("electionPriority", PREFERRED + " at each group's preferred node, else " + NOT_PREFERRED);
        }
        settings.put("inflight", Integer.toString(arguments.inflight));
        return settings;
    }

    @Override
    public void open(List<Group> groups) throws IOException {
        InetSocketAddress own = arguments.ownAddress();
        // JRaft's own factory makes a server that listens on all of the machine's addresses.
        rpcServer = new BoltRpcServer(
                new com.alipay.remoting.rpc.RpcServer(own.getHostString(), own.getPort(), true));
        NodeOptions defaults = new NodeOptions();
        RaftRpcServerFactory.addRaftRequestProcessors(
                rpcServer,
                JRaftUtils.createExecutor("RAFT-RPC-executor-", defaults.getRaftRpcThreadPoolSize()),
                JRaftUtils.createExecutor("CLI-RPC-executor-", defaults.getCliRpcThreadPoolSize()));
        if (!rpcServer.init(null)) {
            throw new IOException("can't listen at " + own);
        }
        for (Group group : groups) {
            GroupMachine machine = new GroupMachine(group);
            PeerId self = member(group, arguments.id);
            RaftGroupService service = new RaftGroupService(
                    "group" + group.number, self, nodeOptions(group, self, machine), rpcServer, true);
            machines.add(machine);
            services.add(service);
            if (service.start(false) == null) {
                throw new IOException("can't start group " + group.number);
            }
        }
    }

    @Override
    public boolean leads(Group group) {
        return machines.get(group.number - 1).leads();
    }

    @Override
    public boolean knowsLeader(Group group) {
        return services.get(group.number - 1).getRaftNode().getLeaderId() != null;
    }

    @Override
    public boolean propose(Group group, long number, long startNs) {
        // The log keeps the payload until it is on disk and sent, so each has its own.
        Task task = new Task(payloads.make(number), new Operation(group.proposer, startNs));
        services.get(group.number - 1).getRaftNode().apply(task);
        return true;
    }

    @Override
    public boolean pumps() {
        return false;
    }

    @Override
    public void close() throws InterruptedException {
        for (RaftGroupService service : services) {
            service.shutdown();
        }
        for (RaftGroupService service : services) {
            service.join();
        }
        rpcServer.shutdown();
    }

    private RaftOptions raftOptions() {
        RaftOptions options = new RaftOptions();
        options.setSync(true);
        options.setSyncMeta(true);
        options.setOpenStatistics(false);
        options.setApplyBatch(APPLY_BATCH);
        options.setMaxAppendBufferSize(MAX_APPEND_BUFFER);
        options.setMaxBodySize(MAX_BODY);
        long request = Math.min(MAX_BODY, (long) options.getMaxEntriesSize() * arguments.payload);
        options.setMaxReplicatorInflightMsgs((int) Math.min(MOST_REQUESTS, PIPELINE_BYTES / request));
        options.setDisruptorBufferSize(ring);
        return options;
    }

    /** Many groups prefer their leaders in turn; a single one takes any. */
    private PeerId member(Group group, int id) {
        InetSocketAddress address = arguments.addresses.get(id - 1);
        int priority = ElectionPriority.Disabled;
        if (arguments.groups > 1) {
            priority = group.number % arguments.addresses.size() == id - 1 ? PREFERRED : NOT_PREFERRED;
        }
        return new PeerId(address.getHostString(), address.getPort(), 0, priority);
    }

    private NodeOptions nodeOptions(Group group, PeerId self, GroupMachine machine) throws IOException {
        Configuration members = new Configuration();
        for (int id = 1; id <= arguments.addresses.size(); id++) {
            members.addPeer(member(group, id));
        }
        Path dir = arguments.dataDir.resolve("group" + group.number);
        Files.createDirectories(dir);
        boolean many = arguments.groups > 1;
        NodeOptions options = new NodeOptions();
        options.setRaftOptions(raftOptions());
        options.setInitialConf(members);
        options.setFsm(machine);
        options.setLogUri(dir.resolve("log").toString());
        options.setRaftMetaUri(dir.resolve("meta").toString());
        options.setElectionPriority(self.getPriority());
        options.setElectionTimeoutMs(ELECTION_TIMEOUT_MS);
        options.setSnapshotIntervalSecs(0);
        options.setSharedTimerPool(many);
        options.setSharedElectionTimer(many);
        options.setSharedVoteTimer(many);
        options.setSharedStepDownTimer(many);
        options.setSharedSnapshotTimer(many);
        return options;
    }
}
