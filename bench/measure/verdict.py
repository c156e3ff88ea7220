"""What a long run came to: sentences and checks, printed and written as Markdown."""


class Verdict:
    # Memory breathes: so much more at the end than at the start, of it and in MB, is still flat.
    FLAT_FACTOR, FLAT_SLACK = 1.1, 1

    def __init__(self, title):
        self.lines = [f"# {title}", ""]
        self.is_good = True

    def say(self, text):
        self.lines.append(f"- {text}")

    def check(self, what, is_met, details=""):
        self.is_good &= bool(is_met)
        self.lines.append(f"- {'yes' if is_met else '**NO**'}: {what}" + (f" ({details})" if details else ""))

    def flat(self, what, unit, first, last):
        unit = f" {unit}" if unit else ""
        is_flat = last <= first * self.FLAT_FACTOR + self.FLAT_SLACK
        self.check(f"{what} flat", is_flat, f"{first:g}{unit} at the start of the load, {last:g}{unit} at its end")

    def before_and_after(self, before, after):
        """Of two samples."""

        def text(sample):
            return "{resident_mb} MB, {threads} threads, {descriptors} descriptors".format(**sample)

        self.say(f"Before the load: {text(before)}; behind it: {text(after)}.")

    def write(self, file, chart):
        text = "\n".join([*self.lines, "", f"![samples]({chart})", ""])
        file.write_text(text)
        print(text)
        return self.is_good
