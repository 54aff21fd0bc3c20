// SPDX-License-Identifier: Apache-2.0
// A session of the program that can be answered by any of the servers and by this machine, each
// side attached when it is needed; the local side is given back when it is not.
//
// Thread-safe. Owned by the stub's kernel (shared). After fork() the child finds the immutable half
// (model, options) as it was, and attaches both sides anew: `Live` belongs to one process.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "intercept/common/account.h"
#include "intercept/common/choose.h"
#include "intercept/common/estimates.h"
#include "intercept/common/process.h"
#include "intercept/common/server_link.h"
#include "intercept/common/trace.h"
#include "wire/client.h"
#include "wire/model_package.h"

namespace outboard::intercept {

// The model, opened in this process by the program's own library. The vendor's part derives.
class LocalModel {
 public:
  virtual ~LocalModel() = default;
  // Computes on this thread, which may be any; touches nothing of the program's. The native code
  // kAnsweredByTheProgram (run.h): only the program's side can run it.
  virtual Result<void> run(std::span<const std::uint32_t> wanted,
                           std::span<const wire::InputTensor> inputs, wire::OutputSink& outputs,
                           wire::CancelToken* cancel) = 0;
};

struct SessionSpec {
  std::string model_name;  // for people: a path, or "from memory"
  std::shared_ptr<const wire::ModelPackage> package;
  wire::SessionOptions options;
  bool profiling = false;  // the program wants a profile of it
  // Opens the same model here with the program's own options; any thread.
  std::function<Result<std::shared_ptr<LocalModel>>()> open_local;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  explicit Session(SessionSpec spec);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const SessionSpec& spec() const { return spec_; }

  // Tries the servers in order, now. `upload`: waits for the model to get there, with progress on a
  // terminal. The description when one opened the session.
  std::optional<wire::SessionDescription> attach_now(bool upload);
  // Hands the local side over, and has the background bring the session to a server: to one, and
  // once that has it to the others, so that they can take over.
  void set_local(std::shared_ptr<LocalModel> local);
  void attach_later();
  // Called on `link`'s thread. False: the server is lost again, try later.
  bool attach_in_background(ServerLink& link);

  // Where the next Run goes. Each route ends in exactly one of ran_at_server(), ran_here(), lost(),
  // blameless() and overtaken().
  struct Route {
    Choice choice;
    std::shared_ptr<wire::RemoteSession> remote;  // when choice.place is kServer
    ServerLink* link = nullptr;
    RunKey key = 0;
    std::uint64_t request_bytes = 0;
    Decision decision;  // what was expected, when it is late, what another side would take
  };
  Route route(std::span<const std::uint32_t> wanted, std::span<const wire::InputTensor> inputs);
  void ran_at_server(const Route& route, std::uint64_t time_ns, const wire::RunAccount& run);
  // `time_ns`: of the Run alone, without opening the model. 0: it failed.
  void ran_here(const Route& route, std::uint64_t time_ns);
  // The local side, opened now if it is not there; one thread opens, the others wait for it.
  Result<std::shared_ptr<LocalModel>> local();
  // A Run at the server of `route` failed. False: the error is the Run's own (the engine's, or a
  // cancel). True: the server is gone, busy, lost the model or spoke nonsense; the Run shall be
  // answered here.
  bool lost(const Route& route, const Error& error);
  // The program's side would not take what the server of `route` answered.
  void blameless(const Route& route);
  // A second try (hedge.h) answered before the server of `route` had.
  enum class Lateness : std::uint8_t {
    kSilent,    // there had been no word of it
    kUnknown,   // it took longer than it should
    kSlowLink,  // the Run's bytes moved too slowly, and link_fell() was told
  };
  void overtaken(const Route& route, const OvertakenCost& cost, Lateness why);

  // Bytes of a Run that is late at the server of `route` move so slowly.
  void link_fell(const Route& route, bool up, double us_per_byte);
  // What would answer the Run of `route` if it were begun there now.
  struct Elsewhere {
    double us = 0;        // with opening the model, where that is to be done; 0: not known
    double local_us = 0;  // of a Run here alone; 0: not known, or not possible
    bool must_open = false;
  };
  Elsewhere elsewhere(const Route& route);
  // Opens the model here in the background, so that it is there when it is wanted.
  void open_local_later();

  // Where the second try of a Run goes that the server of `first` has not answered; ends as any.
  Route second_route(const Route& first);
  // The server of `route` has not even sent a heartbeat: Runs that follow go elsewhere at once.
  void server_is_silent(const Route& route, double unheard_us);

  // The Runs of the session, for the profile; nullptr when none is wanted.
  Trace* profile() const { return profile_.get(); }
  Account& account();
  std::shared_ptr<Account> shared_account();

 private:
  struct Live;
  Live& live();
  Route choose_route(Live& live, RunKey key, std::span<const wire::InputTensor> inputs);
  void attach_to_spares(Live& live);
  void give_local_back(Live& live);
  void retry_later(Live& live, ServerLink& link);
  void refused(Live& live, const ServerLink& link, const Error& error, LogLevel level);

  const SessionSpec spec_;
  const std::unique_ptr<Trace> profile_;
  std::atomic<Live*> live_{nullptr};
};

}  // namespace outboard::intercept
