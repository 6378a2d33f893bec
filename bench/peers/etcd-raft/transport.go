package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	// frameHeader is a message's length in four bytes, little-endian.
	frameHeader = 4
	// maxFrame is more than any message: maxMessageBytes and what an entry may be above it.
	maxFrame = 16 << 20
	// writeBytes is how much is gathered for one write.
	writeBytes = 1 << 20
	readBytes  = 256 << 10
	redial     = 100 * time.Millisecond
)

// transport has one connection to each other node for what it sends, and one from each for what it
// receives. Messages are in order; those that meet a broken connection are lost.
type transport struct {
	listener net.Listener
	peers    map[uint64]*mailbox[raftpb.Message]
	receive  func([]raftpb.Message)
}

func newTransport(own string, peers map[uint64]string, receive func([]raftpb.Message)) (*transport, error) {
	listener, err := net.Listen("tcp", own)
	if err != nil {
		return nil, err
	}
	t := &transport{listener: listener, peers: map[uint64]*mailbox[raftpb.Message]{}, receive: receive}
	for id, address := range peers {
		queue := newMailbox[raftpb.Message](newWake())
		t.peers[id] = queue
		go t.sendTo(id, address, queue)
	}
	go t.accept()
	return t, nil
}

func (t *transport) send(message raftpb.Message) {
	t.peers[message.To].put(message)
}

func (t *transport) sendTo(id uint64, address string, queue *mailbox[raftpb.Message]) {
	for {
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			err = write(connection, queue)
			_ = connection.Close()
		}
		t.receive([]raftpb.Message{{Type: raftpb.MsgUnreachable, From: id}})
		queue.take(nil)
		time.Sleep(redial)
	}
}

// write sends what is put into the queue until the connection breaks.
func write(connection net.Conn, queue *mailbox[raftpb.Message]) error {
	var batch []raftpb.Message
	var buffer []byte
	for range queue.wake {
		batch = queue.take(batch)
		buffer = buffer[:0]
		for index := range batch {
			buffer = appendFrame(buffer, &batch[index])
			if len(buffer) >= writeBytes || index == len(batch)-1 {
				if _, err := connection.Write(buffer); err != nil {
					return err
				}
				buffer = buffer[:0]
			}
		}
	}
	return nil
}

func appendFrame(buffer []byte, message *raftpb.Message) []byte {
	size := message.Size()
	buffer = binary.LittleEndian.AppendUint32(buffer, uint32(size))
	begin := len(buffer)
	buffer = append(buffer, make([]byte, size)...)
	if _, err := message.MarshalToSizedBuffer(buffer[begin:]); err != nil {
		// The buffer has the size that the message asked for.
		panic(err)
	}
	return buffer
}

func (t *transport) accept() {
	for {
		connection, err := t.listener.Accept()
		if err != nil {
			return
		}
		go t.receiveFrom(connection)
	}
}

func (t *transport) receiveFrom(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, readBytes)
	var frame []byte
	var batch []raftpb.Message
	for {
		message, used, err := readMessage(reader, frame)
		if err != nil {
			return
		}
		frame = used
		batch = append(batch, message)
		// What has arrived already is handed on together.
		if reader.Buffered() < frameHeader {
			t.receive(batch)
			batch = batch[:0]
		}
	}
}

// readMessage reads a message; its bytes don't refer to the frame, which can be used again.
func readMessage(reader *bufio.Reader, frame []byte) (message raftpb.Message, used []byte, err error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(reader, header[:]); err != nil {
		return message, nil, err
	}
	size := int(binary.LittleEndian.Uint32(header[:]))
	if size > maxFrame {
		return message, nil, fmt.Errorf("a message of %d bytes", size)
	}
	if size > cap(frame) {
		frame = make([]byte, size)
	}
	frame = frame[:size]
	if _, err := io.ReadFull(reader, frame); err != nil {
		return message, nil, err
	}
	return message, frame, message.Unmarshal(frame)
}

func (t *transport) close() error {
	return t.listener.Close()
}
