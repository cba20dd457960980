// A chat server in Go on gorilla/websocket, like the library's chat example: one goroutine owns the
// rooms, and each client has a goroutine that reads, one that writes, and a queue of 256.
//
//	gorilla PORT each   one frame for each message
//	gorilla PORT join   as the example does: one frame for all messages in the queue,
//	                    joined by newlines
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	queueLength = 256
	writeWait   = 10 * time.Second
	pongWait    = 60 * time.Second
	pingPeriod  = pongWait * 9 / 10
	maxMessage  = 16384
)

type event struct {
	Type      string    `json:"type"`
	Content   string    `json:"content"`
	Room      string    `json:"room"`
	Username  string    `json:"username"`
	ID        int64     `json:"id"`
	Timestamp time.Time `json:"timestamp"`
}

type client struct {
	conn  *websocket.Conn
	room  string
	name  string
	queue chan []byte
}

type said struct {
	by   *client
	text string
}

type hub struct {
	rooms map[string]map[*client]struct{}
	join  chan *client
	leave chan *client
	say   chan said
	count int64
}

func (h *hub) run() {
	for {
		select {
		case c := <-h.join:
			if h.rooms[c.room] == nil {
				h.rooms[c.room] = make(map[*client]struct{})
			}
			h.rooms[c.room][c] = struct{}{}
		case c := <-h.leave:
			h.remove(c)
		case s := <-h.say:
			h.deliver(s)
		}
	}
}

func (h *hub) deliver(s said) {
	h.count++
	c := s.by
	data, err := json.Marshal(event{"chat", s.text, c.room, c.name, h.count, time.Now().UTC()})
	if err != nil {
		return
	}
	for member := range h.rooms[c.room] {
		select {
		case member.queue <- data:
		default:
			h.remove(member)
		}
	}
}

func (h *hub) remove(c *client) {
	if _, isIn := h.rooms[c.room][c]; !isIn {
		return
	}
	delete(h.rooms[c.room], c)
	if len(h.rooms[c.room]) == 0 {
		delete(h.rooms, c.room)
	}
	close(c.queue)
}

func (c *client) read(h *hub) {
	defer func() {
		h.leave <- c
		c.conn.Close()
	}()
	c.conn.SetReadLimit(maxMessage)
	c.conn.SetReadDeadline(time.Now().Add(pongWait))
	c.conn.SetPongHandler(func(string) error {
		return c.conn.SetReadDeadline(time.Now().Add(pongWait))
	})
	for {
		_, data, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		h.say <- said{c, string(data)}
	}
}

func (c *client) write(joins bool) {
	ticker := time.NewTicker(pingPeriod)
	defer func() {
		ticker.Stop()
		c.conn.Close()
	}()
	for {
		select {
		case data, isOpen := <-c.queue:
			c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if !isOpen {
				c.conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			if !joins {
				if c.conn.WriteMessage(websocket.TextMessage, data) != nil {
					return
				}
				continue
			}
			frame, err := c.conn.NextWriter(websocket.TextMessage)
			if err != nil {
				return
			}
			frame.Write(data)
			for waiting := len(c.queue); waiting > 0; waiting-- {
				frame.Write([]byte{'\n'})
				frame.Write(<-c.queue)
			}
			if frame.Close() != nil {
				return
			}
		case <-ticker.C:
			c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if c.conn.WriteMessage(websocket.PingMessage, nil) != nil {
				return
			}
		}
	}
}

func main() {
	port, joins := os.Args[1], os.Args[2] == "join"
	h := &hub{
		rooms: make(map[string]map[*client]struct{}),
		join:  make(chan *client),
		leave: make(chan *client),
		say:   make(chan said),
	}
	go h.run()
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	http.HandleFunc("/ws/", func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		room, name := strings.TrimPrefix(r.URL.Path, "/ws/"), r.URL.Query().Get("username")
		c := &client{conn, room, name, make(chan []byte, queueLength)}
		h.join <- c
		go c.write(joins)
		go c.read(h)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
