package mesh.isthmus.testbed;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.cloud.netflix.eureka.server.EnableEurekaServer;
import org.springframework.context.annotation.Bean;
import org.springframework.core.env.Environment;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.web.SecurityFilterChain;

/** A Eureka server as its documentation shows it; everything else is said by properties. */
@SpringBootApplication
@EnableEurekaServer
public class EurekaServer {
    public static void main(String[] arguments) {
        SpringApplication.run(EurekaServer.class, arguments);
    }

    /** Asks for the one user, by HTTP Basic or (`testbed.login=form`) also by a page that strangers are sent to. */
    @Bean
    @ConditionalOnProperty("spring.security.user.name")
    SecurityFilterChain logins(HttpSecurity http, Environment environment) throws Exception {
        http.csrf(csrf -> csrf.disable());
        http.authorizeHttpRequests(any -> any.anyRequest().authenticated());
        if ("form".equals(environment.getProperty("testbed.login"))) {
            return http.formLogin(Customizer.withDefaults()).build();
        }
        return http.httpBasic(Customizer.withDefaults()).build();
    }
}
