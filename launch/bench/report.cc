#include "launch/bench/report.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "launch/checkpoint/output_file.h"

namespace witan {
namespace {

using Json = nlohmann::ordered_json;
constexpr const char* kFormat = "witan bench 1";

Json json_of(const BenchResult& result) {
  Json json = {{"section", result.section},
               {"subject", result.subject},
               {"what", result.what},
               {"seconds", result.seconds.median},
               {"seconds_quartiles", {result.seconds.low, result.seconds.high}},
               {"samples", result.seconds.count}};
  if (result.flop > 0.0) json["flop"] = result.flop;
  if (result.flop > 0.0) json["gflops"] = result.gflops();
  if (result.bytes > 0.0) json["bytes"] = result.bytes;
  if (result.bytes > 0.0) json["gigabytes_per_second"] = result.gigabytes_per_second();
  if (result.tokens > 0.0) json["tokens"] = result.tokens;
  if (result.tokens > 0.0) json["tokens_per_second"] = result.tokens_per_second();
  Json& ratios = json["ratios"] = Json::array();
  for (const Ratio& ratio : result.ratios) {
    Json& entry = ratios.emplace_back(Json{{"of", ratio.of}, {"value", ratio.value}});
    if (!ratio.bar) continue;
    entry[ratio.at_most ? "at_most" : "at_least"] = *ratio.bar;
    entry["holds"] = ratio.holds();
  }
  return json;
}

BenchResult result_of(const Json& json) {
  BenchResult result{json.at("section"), json.at("subject"), json.at("what"), {}};
  result.seconds.median = json.at("seconds");
  result.seconds.low = json.at("seconds_quartiles").at(0);
  result.seconds.high = json.at("seconds_quartiles").at(1);
  result.seconds.count = json.at("samples");
  result.flop = json.value("flop", 0.0);
  result.bytes = json.value("bytes", 0.0);
  result.tokens = json.value("tokens", 0.0);
  for (const Json& entry : json.at("ratios")) {
    Ratio& ratio = result.ratios.emplace_back();
    ratio.of = entry.at("of");
    ratio.value = entry.at("value");
    ratio.at_most = entry.contains("at_most");
    const char* bar = ratio.at_most ? "at_most" : "at_least";
    if (entry.contains(bar)) ratio.bar = entry.at(bar).get<double>();
  }
  return result;
}

}  // namespace

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line)) {
    const std::size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "";
}

std::string to_json(const BenchReport& report) {
  Json json;
  json["format"] = kFormat;
  json["machine"] = report.machine;
  Json& results = json["results"] = Json::array();
  for (const BenchResult& result : report.results) results.push_back(json_of(result));
  return json.dump(1) + "\n";
}

BenchReport read_report(const std::string& path) {
  BenchReport report;
  try {
    const Json json = Json::parse(read_text_file(path));
    if (json.at("format") != kFormat) throw_user_error(path, ": not a ", kFormat, " file");
    report.machine = json.at("machine").get<std::map<std::string, std::string>>();
    for (const Json& result : json.at("results")) report.results.push_back(result_of(result));
  } catch (const nlohmann::json::exception& error) {
    throw_user_error(path, ": expected a file that `witan bench --json` wrote: ", error.what());
  }
  return report;
}

}  // namespace witan
