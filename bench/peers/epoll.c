// A minimal chat server in C: one thread, epoll, no library. It shows what the kernel allows. It
// works only with this load: it knows one handshake key, trusts its input, and puts texts into JSON
// as they are.
//
//   epoll PORT each   one write for each delivery
//   epoll PORT turn   one write for each client and turn of the event loop

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EVENTS = 512, MAX_ROOMS = 16384, READ_BYTES = 65536, MAX_FRAME = 32768 };

// The answer to the key in the example of RFC 6455 (section 1.3).
static const char ACCEPTED[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

typedef struct {
  char *data;
  size_t length, capacity;
} Bytes;

typedef struct {
  int fd;
  bool isOpen, isClosed;
  int room;      // -1 until the handshake
  size_t place;  // in the room's list of members
  char name[64];
  Bytes unread;   // the beginning of a frame
  Bytes unsent;   // bytes that the network has not taken
} Client;

typedef struct {
  char name[64];
  Client **members;
  size_t count, capacity;
  Bytes news;  // the frames of this turn
} Room;

static Room rooms[MAX_ROOMS];
static int roomCount;
static int changed[MAX_ROOMS];
static int changedCount;
static bool writesOncePerTurn;
static int epoll;
static long messageCount;

static void append(Bytes *bytes, const void *data, size_t length) {
  if (bytes->length + length > bytes->capacity) {
    bytes->capacity = (bytes->length + length) * 2;
    bytes->data = realloc(bytes->data, bytes->capacity);
    if (bytes->data == NULL) abort();
  }
  memcpy(bytes->data + bytes->length, data, length);
  bytes->length += length;
}

static void dropFront(Bytes *bytes, size_t length) {
  bytes->length -= length;
  memmove(bytes->data, bytes->data + length, bytes->length);
}

static void listen_for(Client *client, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = client};
  epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
}

// Keeps the client's memory: events of this turn may still name it.
static void leave(Client *client) {
  if (client->isClosed) return;
  client->isClosed = true;
  close(client->fd);
  free(client->unread.data);
  free(client->unsent.data);
  client->unread = client->unsent = (Bytes){0};
  if (client->room < 0) return;
  Room *room = &rooms[client->room];
  Client *last = room->members[--room->count];
  room->members[client->place] = last;
  last->place = client->place;
}

// Loop over the members backwards around a call: it may remove the present one from the list.
static void deliver(Client *client, const char *data, size_t length) {
  if (client->isClosed) return;
  if (client->unsent.length == 0) {
    ssize_t sent = send(client->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == (ssize_t)length) return;
    if (sent > 0) {
      data += sent;
      length -= sent;
    }
    listen_for(client, EPOLLIN | EPOLLOUT);
  }
  append(&client->unsent, data, length);
}

static void drain(Client *client) {
  ssize_t sent =
      send(client->fd, client->unsent.data, client->unsent.length, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent <= 0) return;
  dropFront(&client->unsent, sent);
  if (client->unsent.length == 0) listen_for(client, EPOLLIN);
}

static void say(Client *client, const char *text, size_t length) {
  static char json[MAX_FRAME + 512], frame[MAX_FRAME + 516];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  Room *room = &rooms[client->room];
  int size = snprintf(json, sizeof json,
      "{\"type\":\"chat\",\"content\":\"%.*s\",\"room\":\"%s\",\"username\":\"%s\",\"id\":%ld,"
      "\"timestamp\":%lld}",
      (int)length, text, room->name, client->name, ++messageCount,
      now.tv_sec * 1000LL + now.tv_nsec / 1000000);
  int at = 0;
  frame[at++] = (char)0x81;
  if (size < 126) {
    frame[at++] = (char)size;
  } else {
    frame[at++] = 126;
    frame[at++] = (char)(size >> 8);
    frame[at++] = (char)size;
  }
  memcpy(frame + at, json, size);
  if (!writesOncePerTurn) {
    for (size_t i = room->count; i-- > 0;) deliver(room->members[i], frame, at + size);
    return;
  }
  if (room->news.length == 0) changed[changedCount++] = client->room;
  append(&room->news, frame, at + size);
}

static int findRoom(const char *name) {
  for (int i = roomCount; i-- > 0;) {
    if (strcmp(rooms[i].name, name) == 0) return i;
  }
  if (roomCount == MAX_ROOMS) abort();
  strcpy(rooms[roomCount].name, name);
  return roomCount++;
}

// GET /ws/ROOM?username=NAME
static bool enter(Client *client, const char *request) {
  char name[64];
  if (sscanf(request, "GET /ws/%63[^?]?username=%63[^ &]", name, client->name) != 2) return false;
  client->room = findRoom(name);
  Room *room = &rooms[client->room];
  if (room->count == room->capacity) {
    room->capacity = room->capacity * 2 + 8;
    room->members = realloc(room->members, room->capacity * sizeof(Client *));
    if (room->members == NULL) abort();
  }
  client->place = room->count;
  room->members[room->count++] = client;
  deliver(client, ACCEPTED, sizeof ACCEPTED - 1);
  return client->isOpen = true;
}

// Reads one frame, or the handshake. Returns its length: 0 if it is incomplete, -1 if the client
// must go.
static ssize_t take(Client *client, char *data, size_t length) {
  if (!client->isOpen) {
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    *end = 0;
    return enter(client, data) ? end + 4 - data : -1;
  }
  if (length < 6) return 0;
  size_t size = data[1] & 127, head = 2;
  if (size == 127) return -1;
  if (size == 126) {
    size = (uint8_t)data[2] << 8 | (uint8_t)data[3];
    head = 4;
  }
  if (size > MAX_FRAME) return -1;
  if (length < head + 4 + size) return 0;
  const char *mask = data + head;
  char *text = data + head + 4;
  if ((mask[0] | mask[1] | mask[2] | mask[3]) != 0) {
    for (size_t i = 0; i < size; i++) text[i] ^= mask[i % 4];
  }
  int opcode = data[0] & 15;
  if (opcode == 8) return -1;
  if (opcode == 1) say(client, text, size);
  return head + 4 + size;
}

static void receive(Client *client) {
  static char data[READ_BYTES + MAX_FRAME + 16];
  size_t length = client->unread.length;
  memcpy(data, client->unread.data, length);
  client->unread.length = 0;
  ssize_t got = recv(client->fd, data + length, READ_BYTES, MSG_DONTWAIT);
  if (got <= 0) return leave(client);
  length += got;
  size_t at = 0;
  for (ssize_t taken; (taken = take(client, data + at, length - at)) != 0; at += taken) {
    if (taken < 0) return leave(client);
  }
  if (at < length) append(&client->unread, data + at, length - at);
}

static void flush(void) {
  for (int i = 0; i < changedCount; i++) {
    Room *room = &rooms[changed[i]];
    for (size_t j = room->count; j-- > 0;) {
      deliver(room->members[j], room->news.data, room->news.length);
    }
    room->news.length = 0;
  }
  changedCount = 0;
}

static void acceptAll(int listener) {
  int yes = 1;
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    Client *client = calloc(1, sizeof *client);
    if (client == NULL) abort();
    client->fd = fd;
    client->room = -1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  writesOncePerTurn = strcmp(argv[2], "turn") == 0;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
    perror("listen");
    return 1;
  }
  epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN}, events[MAX_EVENTS];
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int count = epoll_wait(epoll, events, MAX_EVENTS, -1);
    for (int i = 0; i < count; i++) {
      Client *client = events[i].data.ptr;
      if (client == NULL) {
        acceptAll(listener);
        continue;
      }
      if (events[i].events & EPOLLOUT && !client->isClosed) drain(client);
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !client->isClosed) receive(client);
    }
    flush();
  }
}
