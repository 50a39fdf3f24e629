/* The mailbox. The eventfd is written once per message; the loop reads it once per visit. */
#include "mailbox.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mailbox_init(struct mailbox *mailbox)
{
    mailbox->first = NULL;
    mailbox->end = &mailbox->first;
    mailbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (mailbox->fd < 0)
        return -errno;
    pthread_mutex_init(&mailbox->lock, NULL);
    return 0;
}

void mailbox_fini(struct mailbox *mailbox)
{
    close(mailbox->fd);
    pthread_mutex_destroy(&mailbox->lock);
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    mail->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    *mailbox->end = mail;
    mailbox->end = &mail->next;
    pthread_mutex_unlock(&mailbox->lock);
    uint64_t one = 1;
    ssize_t put = write(mailbox->fd, &one, sizeof one);
    (void)put; /* fails only when the counter is full, that is, when the loop is woken already */
}

struct mail *mailbox_take(struct mailbox *mailbox)
{
    uint64_t count;
    ssize_t got = read(mailbox->fd, &count, sizeof count);
    (void)got; /* nothing to read: a call without a wake-up, which is allowed */
    pthread_mutex_lock(&mailbox->lock);
    struct mail *mail = mailbox->first;
    mailbox->first = NULL;
    mailbox->end = &mailbox->first;
    pthread_mutex_unlock(&mailbox->lock);
    return mail;
}
