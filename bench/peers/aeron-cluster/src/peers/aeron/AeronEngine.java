package peers.aeron;

import io.aeron.CommonContext;
import io.aeron.archive.Archive;
import io.aeron.archive.ArchiveThreadingMode;
import io.aeron.archive.client.AeronArchive;
import io.aeron.cluster.ClusteredMediaDriver;
import io.aeron.cluster.ConsensusModule;
import io.aeron.cluster.client.AeronClusterVersion;
import io.aeron.cluster.service.ClusteredServiceContainer;
import io.aeron.driver.MediaDriver;
import io.aeron.driver.ThreadingMode;
import java.io.File;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.StringJoiner;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.agrona.ErrorHandler;
import org.agrona.concurrent.BackoffIdleStrategy;
import org.agrona.concurrent.IdleStrategy;
import org.agrona.concurrent.NoOpLock;
import peers.common.Arguments;
import peers.common.Engine;
import peers.common.Group;
import peers.common.Node;
import peers.common.UsageException;

/** Aeron Cluster: media driver, archive, consensus module and service in one process. */
final class AeronEngine implements Engine {
    private static final String TERM_LENGTH = "term-length=16m";
    static final String INGRESS_CHANNEL = "aeron:ipc?" + TERM_LENGTH;
    private static final String LOCAL_CONTROL_CHANNEL = "aeron:ipc?term-length=64k";

    private static final int INGRESS_PORT = 0;
    private static final int CONSENSUS_PORT = 1;
    private static final int LOG_PORT = 2;
    private static final int CATCHUP_PORT = 3;
    private static final int ARCHIVE_PORT = 4;
    private static final int ARCHIVE_REPLICATION_PORT = 5;
    private static final int ARCHIVE_RESPONSE_PORT = 6;
    private static final int REPLICATION_PORT = 7;

    private static final long HEARTBEAT_TIMEOUT_NS = TimeUnit.SECONDS.toNanos(3);
    private static final long MAX_PARK_NS = TimeUnit.MICROSECONDS.toNanos(100);
    private static final int MTU = 8192;
    private static final int SOCKET_BUFFER = 2 << 20;
    private static final int FRAGMENT_LIMIT = 256;

    private final Arguments arguments;
    private final boolean sync;
    private final String aeronDir;
    private Ingress ingress;
    private LoadedService service;
    private ClusteredMediaDriver driver;
    private ClusteredServiceContainer container;

    AeronEngine(Arguments arguments) {
        this.arguments = arguments;
        arguments.allowOptions(Set.of("sync"));
        if (arguments.groups != 1) {
            throw new UsageException("an Aeron cluster has one log: --groups must be 1");
        }
        String syncText = arguments.option("sync", "on");
        if (!syncText.equals("on") && !syncText.equals("off")) {
            throw new UsageException("sync is on or off, not " + syncText);
        }
        sync = syncText.equals("on");
        aeronDir = CommonContext.AERON_DIR_PROP_DEFAULT + "-peer-" + arguments.ownAddress().getPort();
    }

    @Override
    public String name() {
        return "aeron-cluster";
    }

    @Override
    public String version() {
        return AeronClusterVersion.VERSION;
    }

    @Override
    public boolean durable() {
        return sync;
    }

    @Override
    public Map<String, String> settings() {
        Map<String, String> settings = new TreeMap<>();
        String level = Integer.toString(syncLevel());
        settings.put("aeron.archive.file.sync.level", level);
        settings.put("aeron.archive.catalog.file.sync.level", level);
        settings.put("aeron.cluster.file.sync.level", level);
        settings.put("aeron.threading.mode", ThreadingMode.SHARED.name());
        settings.put("aeron.archive.threading.mode", ArchiveThreadingMode.SHARED.name());
        settings.put("idle strategies", "backoff, parking up to " + MAX_PARK_NS + " ns");
        settings.put("aeron.mtu.length", Integer.toString(MTU));
        settings.put("aeron.socket.so_sndbuf, so_rcvbuf, rcv.initial.window.length", Integer.toString(SOCKET_BUFFER));
        settings.put("aeron.cluster.log.channel", TERM_LENGTH);
        settings.put("aeron.cluster.ingress, log.fragment.limit", Integer.toString(FRAGMENT_LIMIT));
        settings.put("aeron.cluster.leader.heartbeat.timeout", HEARTBEAT_TIMEOUT_NS + " ns");
        settings.put("snapshots", "off");
        settings.put("inflight", Integer.toString(arguments.inflight));
        return settings;
    }

    @Override
    public void open(List<Group> groups) {
        ingress = new Ingress(arguments, aeronDir);
        service = new LoadedService(groups.get(0), ingress);
        AeronArchive.Context archiveClient = new AeronArchive.Context()
                .aeronDirectoryName(aeronDir)
                .controlRequestChannel(LOCAL_CONTROL_CHANNEL)
                .controlResponseChannel(LOCAL_CONTROL_CHANNEL)
                .lock(NoOpLock.INSTANCE);
        driver = ClusteredMediaDriver.launch(driver(), archive(), consensusModule(archiveClient));
        container = ClusteredServiceContainer.launch(new ClusteredServiceContainer.Context()
                .aeronDirectoryName(aeronDir)
                .archiveContext(archiveClient.clone())
                .clusterDir(dir("cluster"))
                .clusteredService(service)
                .logFragmentLimit(FRAGMENT_LIMIT)
                .idleStrategySupplier(this::idleStrategy)
                .errorHandler(reporting("service"))
                .terminationHook(() -> Node.die("the service ended", null)));
    }

    @Override
    public boolean leads(Group group) {
        return ingress.isConnected();
    }

    @Override
    public boolean knowsLeader(Group group) {
        return service.knowsLeader();
    }

    @Override
    public boolean propose(Group group, long number, long startNs) {
        return ingress.offer(number, startNs);
    }

    @Override
    public boolean pumps() {
        return true;
    }

    @Override
    public void close() {
        container.close();
        driver.close();
    }

    private MediaDriver.Context driver() {
        return new MediaDriver.Context()
                .aeronDirectoryName(aeronDir)
                .dirDeleteOnStart(true)
                .dirDeleteOnShutdown(true)
                .threadingMode(ThreadingMode.SHARED)
                .sharedIdleStrategy(idleStrategy())
                .termBufferSparseFile(true)
                .mtuLength(MTU)
                .ipcMtuLength(MTU)
                .socketSndbufLength(SOCKET_BUFFER)
                .socketRcvbufLength(SOCKET_BUFFER)
                .initialWindowLength(SOCKET_BUFFER)
                .errorHandler(reporting("media driver"))
                .terminationHook(() -> Node.die("the media driver ended", null));
    }

    private Archive.Context archive() {
        return new Archive.Context()
                .aeronDirectoryName(aeronDir)
                .archiveDir(dir("archive"))
                .controlChannel(udp(ARCHIVE_PORT))
                .replicationChannel(udp(ARCHIVE_REPLICATION_PORT))
                .archiveClientContext(new AeronArchive.Context().controlResponseChannel(udp(ARCHIVE_RESPONSE_PORT)))
                .localControlChannel(LOCAL_CONTROL_CHANNEL)
                .recordingEventsEnabled(false)
                .catalogFileSyncLevel(syncLevel())
                .fileSyncLevel(syncLevel())
                .threadingMode(ArchiveThreadingMode.SHARED)
                .idleStrategySupplier(this::idleStrategy)
                .errorHandler(reporting("archive"));
    }

    private ConsensusModule.Context consensusModule(AeronArchive.Context archiveClient) {
        return new ConsensusModule.Context()
                .clusterMemberId(arguments.id - 1)
                .clusterMembers(members())
                .clusterDir(dir("cluster"))
                .archiveContext(archiveClient.clone())
                .fileSyncLevel(syncLevel())
                .ingressChannel("aeron:udp?term-length=64k")
                .isIpcIngressAllowed(true)
                .ingressFragmentLimit(FRAGMENT_LIMIT)
                .logChannel("aeron:udp?" + TERM_LENGTH)
                .logFragmentLimit(FRAGMENT_LIMIT)
                .replicationChannel(udp(REPLICATION_PORT))
                .leaderHeartbeatTimeoutNs(HEARTBEAT_TIMEOUT_NS)
                .idleStrategySupplier(this::idleStrategy)
                .errorHandler(reporting("consensus module"))
                .terminationHook(() -> Node.die("the consensus module ended", null));
    }

    private int syncLevel() {
        return sync ? 1 : 0;
    }

    private File dir(String name) {
        return arguments.dataDir.resolve(name).toFile();
    }

    private IdleStrategy idleStrategy() {
        return new BackoffIdleStrategy(1, 1, TimeUnit.MICROSECONDS.toNanos(1), MAX_PARK_NS);
    }

    private String udp(int port) {
        return "aeron:udp?endpoint=" + endpoint(arguments.ownAddress(), port);
    }

    private static String endpoint(InetSocketAddress address, int port) {
        return address.getHostString() + ":" + (address.getPort() + port);
    }

    private String members() {
        StringJoiner members = new StringJoiner("|");
        int id = 0;
        for (InetSocketAddress address : arguments.addresses) {
            StringJoiner member = new StringJoiner(",").add(Integer.toString(id++));
            for (int port : new int[] {INGRESS_PORT, CONSENSUS_PORT, LOG_PORT, CATCHUP_PORT, ARCHIVE_PORT}) {
                member.add(endpoint(address, port));
            }
            members.add(member.toString());
        }
        return members.toString();
    }

    private static ErrorHandler reporting(String part) {
        return error -> System.err.println(part + ": " + error);
    }
}
